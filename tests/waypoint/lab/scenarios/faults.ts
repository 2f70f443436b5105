/**
 * What goes wrong behind and before a waypoint, at every step, with and without a tunnel to the server: the client is told the truth as Envoy tells it,
 * nothing hangs, and the next request is served.
 */
import assert from "node:assert/strict";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import type { Peer } from "../../../e2e/support/peer.ts";
import { backend, httpRoute } from "../support/objects.ts";
import { serveRaw } from "../support/raw_server.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import type { AppPod } from "../support/stage.ts";

export const FAULT_PORT = 7_200;
/** No route waits longer in these scenarios. */
export const TIMEOUT = "1s";

/** A service whose application does wrong, once behind a tunnel and once without, with a time limit and without retries. */
async function forBoth(
  scene: Scene,
  name: string,
  port: number,
  run: (service: LabService, app: AppPod) => Promise<void>,
): Promise<void> {
  const { alpha, plain, client } = await scene.stage();
  for (const app of [alpha, plain]) {
    const ports = [{ name: "http", port: 80, target: port }, { name: "http-ok", port: 81, target: 8080 }];
    const service = await scene.addService(`${name}-${app.pod.name}`, { pods: [app], ports });
    await scene.apply(httpRoute(service.name, service, [{
      timeouts: { request: TIMEOUT },
      filters: [{
        type: "ResponseHeaderModifier",
        responseHeaderModifier: { set: [{ name: "x-through", value: "waypoint" }] },
      }],
      backendRefs: [backend(service)],
    }], 80));
    await eventually(() => client.app.echo(service.url("http-ok"), { timeoutMs: 5_000 }), 15_000);
    await eventually(async () => {
      const { headers } = await client.app.http(service.url("http", "/probe"), { timeoutMs: 3_000 });
      assert.equal(headers["x-through"], "waypoint");
    }, 15_000).catch(() => {});
    await run(service, app);
    assert.equal((await client.app.echo(service.url("http-ok"))).app, app.pod.name, "the next request is served");
  }
}

interface Fault {
  readonly name: string;
  readonly answer: (peer: Peer, head: string) => unknown;
  readonly opened?: (peer: Peer) => unknown;
  readonly status: number;
  readonly body: RegExp;
}

export const OK = "HTTP/1.1 200 OK\r\n";
export const RESET = /^upstream connect error or disconnect\/reset before headers\. .*reset reason: /;
const LENGTH = /content-length: ([0-9]+)/i;

/** Before the head of the answer: the waypoint can still say what happened. */
const EARLY: readonly Fault[] = [
  { name: "closes at once", answer: () => {}, opened: (peer) => peer.close(), status: 503, body: RESET },
  { name: "resets at once", answer: () => {}, opened: (peer) => peer.abort(), status: 503, body: RESET },
  { name: "closes after the request", answer: (peer) => peer.close(), status: 503, body: RESET },
  { name: "resets after the request", answer: (peer) => peer.abort(), status: 503, body: RESET },
  {
    name: "ends within the head",
    answer: (peer) => {
      peer.write("HTTP/1.1 200 OK\r\nContent-Le");
      peer.close();
    },
    status: 503,
    body: RESET,
  },
  {
    name: "is no HTTP",
    answer: (peer) => peer.write("220 mail.example ready\r\n\r\n"),
    status: 502,
    body: /protocol error|^upstream connect error/,
  },
  {
    name: "has two lengths",
    answer: (peer) => peer.write(`${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`),
    status: 502,
    body: /protocol error|^upstream connect error/,
  },
  {
    name: "has a head without an end",
    answer: (peer) => peer.write(OK + `X-A: ${"a".repeat(70_000)}\r\n`.repeat(3)),
    status: 502,
    body: /protocol error|headers|^upstream connect error/,
  },
  { name: "says nothing", answer: () => pause(60_000), status: 504, body: /^upstream request timeout$/ },
  {
    name: "stops within the head",
    answer: (peer) => peer.write("HTTP/1.1 200 OK\r\nX-"),
    status: 504,
    body: /^upstream request timeout$/,
  },
  {
    name: "only continues",
    answer: (peer) => peer.write("HTTP/1.1 100 Continue\r\n\r\n"),
    status: 504,
    body: /^upstream request timeout$/,
  },
];

scenario(
  "upstream faults before the answer: refused, closed, reset, garbled, silent; each is told apart",
  async (scene) => {
    const { client } = await scene.stage();
    await forBoth(scene, "refusing", FAULT_PORT, async (service, { pod }) => {
      const refused = await client.app.http(service.url());
      assert.equal(refused.status, 503);
      assert.match(refused.body, RESET);
      assert.match(refused.body, /remote connection failure/);
      for (const fault of EARLY) {
        const server = serveRaw(pod, FAULT_PORT, fault.answer, fault.opened);
        const { status, body, ms } = await client.app.http(service.url("http", "/fault"), { timeoutMs: 15_000 })
          .catch((error) => assert.fail(`${pod.name} ${fault.name}: ${error.message}`));
        server.close();
        assert.equal(status, fault.status, `${pod.name} ${fault.name}: ${status} ${body}`);
        assert.match(body, fault.body, `${pod.name} ${fault.name}`);
        assert.ok(ms < 8_000, `${fault.name} took ${ms} ms`);
      }
    });
  },
  { sideBySide: true },
);

scenario("upstream faults within the answer: a body that is cut is seen as cut, never as complete", async (scene) => {
  const { client } = await scene.stage();
  const cuts: readonly (readonly [string, (peer: Peer) => unknown])[] = [
    ["closes within a length", (peer) => {
      peer.write(`${OK}Content-Length: 100\r\n\r\nhalf`);
      peer.close();
    }],
    ["resets within a length", async (peer) => {
      peer.write(`${OK}Content-Length: 100\r\n\r\nhalf`);
      await pause(50);
      peer.abort();
    }],
    ["closes within chunks", (peer) => {
      peer.write(`${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
      peer.close();
    }],
    ["garbles its chunks", (peer) => peer.write(`${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n`)],
    ["stops within a length", (peer) => peer.write(`${OK}Content-Length: 100\r\n\r\nhalf`)],
  ];
  await forBoth(scene, "cutting", FAULT_PORT, async (service, { pod }) => {
    for (const [name, answer] of cuts) {
      const server = serveRaw(pod, FAULT_PORT, answer);
      for (const protocol of ["http1", "http2"] as const) {
        const seen = await client.app.http(service.url(), { protocol, timeoutMs: 15_000 }).then(
          ({ status, body }) => `${status} ${body}`,
          (error: Error) => error,
        );
        assert.ok(seen instanceof Error, `${pod.name} ${name}, ${protocol}: the client takes it for complete: ${seen}`);
        assert.doesNotMatch(seen.message, /no answer in/, `${pod.name} ${name}, ${protocol}: it hangs`);
      }
      server.close();
    }
    // Without a length the end of the connection is the end of the body.
    const server = serveRaw(pod, FAULT_PORT, (peer) => {
      peer.write(`${OK}Connection: close\r\n\r\nall of it`);
      peer.finish();
    });
    const { status, body } = await client.app.http(service.url());
    assert.deepEqual([status, body], [200, "all of it"]);
    server.close();
  });
}, { sideBySide: true });

scenario(
  "upstream faults on a kept connection: what the server closed meanwhile costs no later request",
  async (scene) => {
    const { client } = await scene.stage();
    await forBoth(scene, "keeping", FAULT_PORT, async (service, { pod }) => {
      let close = true;
      const server = serveRaw(pod, FAULT_PORT, async (peer, head) => {
        const length = Number(LENGTH.exec(head)?.[1] ?? 0);
        if (length > 0) await peer.read(length);
        peer.write(`${OK}Content-Length: 2\r\n\r\nok`);
        // An ordinary keep-alive limit: it says nothing of it and goes.
        if (close) setTimeout(() => peer.close(), 5);
      });
      for (let i = 0; i < 12; i++) {
        const { status, body } = await client.app.http(service.url());
        assert.equal(status, 200, `request ${i}: ${body}`);
        // A request that meets the end on its way is lost, as with Envoy: it may have been carried out.
        await pause(60 + i % 10);
      }
      close = false;
      const before = server.seen.connections;
      for (let i = 0; i < 10; i++) assert.equal((await client.app.http(service.url())).status, 200);
      assert.ok(
        server.seen.connections - before <= 3,
        `${server.seen.connections - before} connections for ten requests`,
      );
      server.close();
    });
  },
  { sideBySide: true },
);
