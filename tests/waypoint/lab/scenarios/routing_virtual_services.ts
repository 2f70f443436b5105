/** VirtualService behind a waypoint (reference waypoint 4.2 to 4.4): everything that a route does with a request. */
import { assertThat, check, countApps } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";
import { all, type Ask, expectRoutes, fresh, gives, type Places, type Route, to } from "../support/virtual_service.ts";

const faults = ({ service }: Places): readonly Route[] => {
  const always = { percentage: { value: 100 } };
  const here = { route: [to(service)] };
  return [
    {
      name: "fault: abort",
      route: { ...here, fault: { abort: { httpStatus: 418, ...always } } },
      look: gives({}, { status: 418, body: "fault filter abort", headers: { "x-app": undefined } }),
    },
    {
      name: "fault: abort with a status of gRPC",
      route: { ...here, fault: { abort: { grpcStatus: "UNAVAILABLE", ...always } } },
      look: all(
        gives({}, { status: 200, body: "fault filter abort", headers: { "x-app": undefined } }),
        gives({ method: "POST", headers: { "content-type": "application/grpc" } }, {
          status: 200,
          headers: { "grpc-status": "14", "grpc-message": "fault filter abort", "x-app": undefined },
        }),
      ),
    },
    {
      name: "fault: delay",
      route: { ...here, fault: { delay: { fixedDelay: "0.4s", ...always } } },
      look: async (send) => {
        const answer = await send();
        check(answer, { app: "alpha" });
        assertThat(answer.ms >= 395, `it took ${answer.ms} ms`);
      },
    },
    {
      name: "fault: half of them",
      route: { ...here, fault: { abort: { httpStatus: 503, percentage: { value: 50 } } } },
      look: async (send) => {
        const counts = await countApps(100, async () => String((await send()).status));
        const aborted = counts["503"] ?? 0;
        assertThat(aborted > 20 && aborted < 80, `of 100 were aborted ${aborted}`);
      },
    },
    {
      name: "fault: none of them",
      route: { ...here, fault: { abort: { httpStatus: 503, percentage: { value: 0 } } } },
      look: gives({}, { app: "alpha" }),
    },
  ];
};

const triesAndTimes = ({ service, beta, betaPod }: Places): readonly Route[] => {
  const here = { route: [to(service)] };
  const failing = (times: number, status = 503): Ask => ({ path: `?fail=${times}&status=${status}&key=${fresh()}` });
  return [
    {
      name: "timeout",
      route: { ...here, timeout: "0.3s" },
      look: all(
        gives({ path: "?delay=3000" }, { status: 504, body: "upstream request timeout" }),
        gives({}, { app: "alpha", got: { "x-envoy-expected-rq-timeout-ms": "300" } }),
      ),
    },
    {
      name: "retries: by class of status",
      route: { ...here, retries: { attempts: 3, retryOn: "5xx", perTryTimeout: "2s" } },
      look: all(
        (send) => send(failing(2)).then((answer) => check(answer, {})),
        (send) => send(failing(5)).then((answer) => check(answer, { status: 503 })),
      ),
    },
    {
      name: "retries: by one status",
      route: { ...here, retries: { attempts: 1, retryOn: "418" } },
      look: all(
        (send) => send(failing(1, 418)).then((answer) => check(answer, {})),
        (send) => send(failing(1, 500)).then((answer) => check(answer, { status: 500 })),
      ),
    },
    {
      name: "retries: none",
      route: { ...here, retries: { attempts: 0 } },
      look: (send) => send(failing(1)).then((answer) => check(answer, { status: 503 })),
    },
    {
      name: "retries: a limit for each try",
      route: { ...here, retries: { attempts: 2, retryOn: "gateway-error", perTryTimeout: "0.25s" } },
      look: async (send) => {
        const answer = await send({ path: "?delay=2500" });
        check(answer, { status: 504 });
        assertThat(answer.ms > 700, `three tries of 250 ms took ${answer.ms} ms`);
      },
    },
    {
      name: "mirror",
      route: { ...here, mirror: { host: beta.hostname, port: { number: 80 } }, mirrorPercentage: { value: 100 } },
      look: async (send) => {
        const key = fresh();
        check(await send({ path: `?fail=0&key=${key}` }), { app: "alpha" });
        // Beta counts for itself: who asks it next is the second only if the copy came.
        await new Promise((resolve) => setTimeout(resolve, 300));
        const own = await betaPod.app.http(`http://127.0.0.1:8080/?fail=1&key=${key}`);
        assertThat(own.status === 200, "no copy came");
      },
    },
  ];
};

const changes = ({ service, alpha, beta }: Places): readonly Route[] => {
  const here = { route: [to(service)] };
  return [
    {
      name: "headers, of route and destination",
      route: {
        route: [
          to(service, { headers: { request: { add: { "x-deep": "2" } }, response: { set: { "x-back-deep": "2" } } } }),
        ],
        headers: {
          request: {
            set: { "x-set": "new", host: "other.example.com" },
            add: { "x-add": "more", "x-deep": "1" },
            remove: ["x-gone"],
          },
          response: { set: { "x-back": "set" }, add: { "x-app": "again" }, remove: ["content-type"] },
        },
      },
      look: gives({ headers: { "x-set": "old", "x-add": "first", "x-gone": "1" } }, {
        got: { "x-set": "new", "x-add": "first,more", "x-gone": undefined, "x-deep": "1,2", host: "other.example.com" },
        headers: { "x-back": "set", "x-app": "alpha,again", "content-type": undefined, "x-back-deep": "2" },
      }),
    },
    {
      name: "direct response",
      route: { directResponse: { status: 299, body: { string: "from the waypoint" } } },
      look: gives({}, { status: 299, body: "from the waypoint", headers: { "x-app": undefined } }),
    },
    {
      name: "redirect",
      route: {
        redirect: { uri: "/there", authority: "else.example.com", redirectCode: 308, scheme: "https", port: 8443 },
      },
      look: gives({}, { status: 308, headers: { location: "https://else.example.com:8443/there" } }),
    },
    {
      name: "rewrite",
      route: { ...here, rewrite: { uri: "/new", authority: "else.example.com" } },
      look: async (send, base) =>
        check(await send({ path: "/a?b=c" }), {
          path: "/new/a?b=c",
          got: { host: "else.example.com", "x-envoy-original-path": `${base}/a?b=c` },
        }),
    },
    {
      name: "rewrite by a regular expression",
      route: { ...here, rewrite: { uriRegexRewrite: { match: "^/[^/]+/([^/]+)/(.*)$", rewrite: "/\\2/by/\\1" } } },
      look: gives({ path: "/one/two?q=1" }, { path: "/two/by/one?q=1" }),
    },
    {
      name: "weights, with headers of their own",
      route: {
        route: [
          to(alpha, { weight: 80, headers: { response: { set: { "x-side": "a" } } } }),
          to(beta, { weight: 20, headers: { response: { set: { "x-side": "b" } } } }),
        ],
      },
      look: async (send) => {
        const counts = await countApps(150, async () => {
          const { headers } = await send();
          return `${headers["x-app"]} ${headers["x-side"]}`;
        });
        const { "alpha a": alpha = 0, "beta b": beta = 0 } = counts;
        assertThat(alpha + beta === 150 && beta > 10 && beta < 55, JSON.stringify(counts));
      },
    },
    {
      name: "CORS",
      route: {
        ...here,
        corsPolicy: {
          allowOrigins: [{ exact: "https://a.example" }, { regex: "https://[a-z]+\\.b\\.example" }],
          allowMethods: ["GET", "PUT"],
          allowHeaders: ["x-one"],
          exposeHeaders: ["x-app"],
          maxAge: "1h",
          allowCredentials: true,
        },
      },
      look: all(
        gives({ method: "OPTIONS", headers: { origin: "https://a.example", "access-control-request-method": "PUT" } }, {
          headers: {
            "access-control-allow-origin": "https://a.example",
            "access-control-allow-methods": "GET,PUT",
            "access-control-allow-headers": "x-one",
            "access-control-max-age": "3600",
            "access-control-allow-credentials": "true",
            "x-app": undefined,
          },
        }),
        gives({ headers: { origin: "https://x.b.example" } }, {
          app: "alpha",
          headers: { "access-control-allow-origin": "https://x.b.example", "access-control-expose-headers": "x-app" },
        }),
        gives({ headers: { origin: "https://c.example" } }, {
          app: "alpha",
          headers: { "access-control-allow-origin": undefined },
        }),
      ),
    },
  ];
};

scenario("routing: VirtualService, what it does with a request", async (scene) => {
  await expectRoutes(scene, "virtual", (places) => [faults, triesAndTimes, changes].flatMap((make) => make(places)));
}, { sideBySide: true });
