/** What HTTPRoute, GRPCRoute, TCPRoute and TLSRoute have beyond the mesh profile of the conformance suite. */
import { join } from "node:path";
import process from "node:process";
import { PORTS } from "../apps/protocol.ts";
import { AppProcess } from "../support/app_process.ts";
import { backend, httpRoute, route, servicePolicy } from "../support/objects.ts";
import { below, prefix, requestHeaders, responseHeaders, rewrite, type Rule } from "../support/routes.ts";
import { assertThat, check, countApps, expectRows, httpRow, type Row, type Wanted } from "../support/rows.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { AppPod } from "../support/stage.ts";
import { tcpRow } from "../support/tcp_rows.ts";

let keys = 0;

scenario("routing: HTTPRoute and GRPCRoute, the rest of their matches and filters", async (scene) => {
  const { client, alpha, beta } = await scene.stage();
  const service = await scene.addService("routed", { pods: [alpha] });
  const regular = await scene.addService("regular", { pods: [alpha] });
  const one = await scene.addService("routed-a", { pods: [alpha] });
  const two = await scene.addService("routed-b", { pods: [beta] });
  const [toOne, toTwo] = [[backend(one)], [backend(two)]];
  const nowhere = { name: "nobody-has-this-name", port: 80 };
  const matched = (path: string, more: Rule): Rule => ({ matches: [{ ...prefix(path), ...more }], backendRefs: toTwo });
  const header = (type: string, value: string) => ({ headers: [{ name: "x-m", type, value }] });
  const rules: readonly Rule[] = [
    matched("/method", { method: "PUT" }),
    matched("/header", header("RegularExpression", "o.e")),
    matched("/query", { queryParams: [{ name: "a", type: "RegularExpression", value: "[0-9]+" }] }),
    below("/all", { timeouts: { request: "300ms" }, backendRefs: toOne }),
    below("/try", { timeouts: { backendRequest: "300ms" }, backendRefs: toOne }),
    below("/mirror", {
      filters: [{ type: "RequestMirror", requestMirror: { backendRef: backend(two) } }],
      backendRefs: toOne,
    }),
    below("/host", { filters: [rewrite({ hostname: "other.example.com" })], backendRefs: toOne }),
    below("/answer", {
      filters: [responseHeaders({ set: { "x-app": "nobody" }, add: { "x-more": "2" }, remove: ["content-type"] })],
      backendRefs: toOne,
    }),
    below("/sides", {
      backendRefs: [{ ...backend(one), filters: [responseHeaders({ set: { "x-side": "a" } })] }, {
        ...backend(two),
        filters: [responseHeaders({ set: { "x-side": "b" } })],
      }],
    }),
    below("/nowhere", { backendRefs: [nowhere] }),
    below("/half", { backendRefs: [{ ...nowhere, weight: 1 }, backend(one, 80, 1)] }),
    below("/nothing", { filters: [requestHeaders({ set: { "x-a": "b" } })] }),
    { backendRefs: toOne },
  ];
  const cors: Rule = below("/cors", {
    filters: [{
      type: "CORS",
      cors: {
        allowOrigins: ["https://a.example"],
        allowMethods: ["GET", "PUT"],
        allowHeaders: ["x-one"],
        exposeHeaders: ["x-app"],
        maxAge: 600,
        allowCredentials: true,
      },
    }],
    backendRefs: toOne,
  });
  await scene.apply(
    httpRoute(service.name, service, rules, 80),
    httpRoute(`${service.name}-cors`, service, [cors], 80),
    // A rule for all paths would take its requests: regular expressions come last.
    httpRoute(regular.name, regular, [
      { matches: [{ path: { type: "RegularExpression", value: "/[0-9]+/x" } }], backendRefs: toTwo },
      { matches: [{ path: { type: "Exact", value: "/exact" } }], backendRefs: toOne },
    ], 80),
    route("GRPCRoute", `${service.name}-grpc`, service, [
      { matches: [{ method: { service: "lab.Other", method: "Unary" } }], backendRefs: [backend(two, 90)] },
      {
        matches: [{ method: { service: "lab.Echo", method: "Unary" }, headers: [{ name: "x-m", value: "two" }] }],
        backendRefs: [backend(two, 90)],
      },
      { matches: [{ method: { service: "lab.Echo", method: "Unary" } }], backendRefs: [backend(one, 90)] },
    ], 90),
  );

  const ask = (path: string, headers: Readonly<Record<string, string>> = {}) =>
    client.app.http(service.url("http", path), { headers, timeoutMs: 10_000 });
  const row = (
    name: string,
    path: string,
    wanted: Wanted,
    more: { method?: string; headers?: Readonly<Record<string, string>> } = {},
  ) => httpRow(name, client, service.url("http", path), more, wanted);
  const [a, b]: Wanted[] = [{ app: "alpha" }, { app: "beta" }];
  const origin = "https://a.example";
  const grpc = (
    name: string,
    wanted: string | number,
    more: { service?: string; metadata?: Readonly<Record<string, string>>; method?: "Many" } = {},
  ): Row => ({
    name: `GRPCRoute: ${name}`,
    async check() {
      const { code, details, messages } = await client.app.grpc(service.address("grpc-api"), {
        method: "Unary",
        messages: [{ count: 1 }],
        ...more,
      });
      const got = code === 0 ? messages[0]?.["app"] : code;
      assertThat(got === wanted, `${got} ${details}`);
    },
  });
  await expectRows([
    row("a method", "/method", b!, { method: "PUT" }),
    row("another method", "/method", a!),
    row("a header by a regular expression", "/header", b!, { headers: { "x-m": "one" } }),
    row("a header that is longer", "/header", a!, { headers: { "x-m": "ones" } }),
    row("a parameter by a regular expression", "/query?a=12", b!),
    row("another parameter", "/query?a=x", a!),
    row("timeout of the request", "/all?delay=2000", { status: 504, body: "upstream request timeout" }),
    row("timeout of a try", "/try?delay=2000", { status: 504 }),
    row("in time", "/all", a!),
    row("another host", "/host", { app: "alpha", got: { host: "other.example.com" } }),
    row("headers of the answer", "/answer", {
      headers: { "x-app": "nobody", "x-more": "2", "content-type": undefined },
    }),
    row("a backend that is not there", "/nowhere", { status: 500 }),
    row("no backend", "/nothing", { status: 500 }),
    row("CORS: preflight", "/cors", {
      headers: {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET,PUT",
        "access-control-max-age": "600",
      },
    }, { method: "OPTIONS", headers: { origin, "access-control-request-method": "PUT" } }),
    row("CORS: request", "/cors", {
      app: "alpha",
      headers: { "access-control-allow-origin": origin, "access-control-allow-credentials": "true" },
    }, {
      headers: { origin },
    }),
    row("CORS: another origin", "/cors", { app: "alpha", headers: { "access-control-allow-origin": undefined } }, {
      headers: { origin: "https://b.example" },
    }),
    {
      name: "mirror",
      async check() {
        const key = `${process.pid}-route-${++keys}`;
        check(await ask(`/mirror?fail=0&key=${key}`), { app: "alpha" });
        await new Promise((resolve) => setTimeout(resolve, 300));
        const own = await beta.app.http(`http://127.0.0.1:${PORTS.http}/?fail=1&key=${key}`);
        assertThat(own.status === 200, "no copy came");
      },
    },
    {
      name: "half of the backends is there",
      async check() {
        const { "200": good = 0, "500": bad = 0 } = await countApps(
          80,
          async () => String((await ask("/half")).status),
        );
        assertThat(good + bad === 80 && good > 15 && bad > 15, `200: ${good}, 500: ${bad}`);
      },
    },
    {
      name: "each backend's own filters",
      async check() {
        const counts = await countApps(40, async () => {
          const { headers } = await ask("/sides");
          return `${headers["x-app"]} ${headers["x-side"]}`;
        });
        assertThat(Object.keys(counts).toSorted().join() === "alpha a,beta b", JSON.stringify(counts));
      },
    },
    httpRow("a path by a regular expression", client, regular.url("http", "/12/x"), {}, b!),
    httpRow("another path", client, regular.url("http", "/1a/x"), {}, { status: 404 }),
    httpRow("an exact path", client, regular.url("http", "/exact"), {}, a!),
    grpc("a service and method", "beta", { service: "lab.Other" }),
    grpc("another service", "alpha"),
    grpc("a header", "beta", { metadata: { "x-m": "two" } }),
    grpc("no rule for it", 12, { method: "Many" }),
  ], 60_000);
}, { sideBySide: true });

scenario("routing: TCPRoute and TLSRoute", async (scene) => {
  const { client, alpha, beta } = await scene.stage();
  const secured = await Promise.all(
    ["one.example.com", "two.example.com"].map((host, i) => addSecured(scene, `secured-${i}`, host)),
  );
  const tls = [{ name: "tls", port: 443, target: PORTS.https }];
  const tcp = await scene.addService("tcp-routed", { pods: [alpha] });
  const doors = await scene.addService("tls-routed", { pods: [secured[0]!], ports: tls });
  const [toBeta, toSecond] = [
    await scene.addService("tcp-b", { pods: [beta] }),
    await scene.addService("tls-b", { pods: [secured[1]!], ports: tls }),
  ];
  const l4 = (kind: "TCPRoute" | "TLSRoute", service: typeof tcp, port: number, more: Rule) => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind,
    metadata: { name: service.name, namespace: service.namespace },
    spec: { parentRefs: [{ group: "", kind: "Service", name: service.name, port }], ...more },
  });
  await scene.apply(
    l4("TCPRoute", tcp, 91, { rules: [{ backendRefs: [backend(toBeta, 91, 1), backend(tcp, 91, 0)] }] }),
    // istiod knows none but the service's own name here: which it is of several names is not for a waypoint to tell.
    l4("TLSRoute", doors, 443, { hostnames: [doors.hostname], rules: [{ backendRefs: [backend(toSecond, 443)] }] }),
    servicePolicy(doors.name, doors, {
      action: "DENY",
      rules: [{ when: [{ key: "connection.sni", values: ["secret.example.com"] }] }],
    }),
  );
  const ask = (servername: string) => client.app.http(`https://${doors.address()}/`, { servername, timeoutMs: 10_000 });
  await expectRows([
    tcpRow("TCPRoute: its port", client, tcp, 91, "beta"),
    tcpRow("TCPRoute: another port", client, tcp, 95, "alpha"),
    {
      name: "TLSRoute",
      check: async () => check(await ask("one.example.com"), { app: secured[1]!.pod.name }),
    },
    {
      name: "a policy by the name that is asked for",
      async check() {
        const answer = await ask("secret.example.com").catch((error: Error) => error.message);
        assertThat(typeof answer === "string" && !answer.includes("no answer in"), JSON.stringify(answer));
      },
    },
  ], 60_000);
  for (const { app } of secured) await app.kill();
}, { sideBySide: true });

/** An application that serves HTTPS too, with a certificate that nobody signed but itself. */
async function addSecured(scene: Scene, name: string, host: string): Promise<AppPod> {
  const base = join(scene.lab.directory, `${scene.namespace}-${name}`);
  const subject = ["-subj", `/CN=${host}`, "-addext", `subjectAltName=DNS:${host}`];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", `${base}.key`];
  await scene.lab.plane.inside(["openssl", "req", "-x509", ...key, ...subject, "-days", "2", "-out", `${base}.pem`]);
  const { namespace } = await scene.stage();
  const [pod] = await scene.lab.addPods({ name: scene.name(name), namespace, node: scene.b });
  return { pod: pod!, app: await AppProcess.start(pod!, { args: [`${base}.pem`, `${base}.key`] }) };
}
