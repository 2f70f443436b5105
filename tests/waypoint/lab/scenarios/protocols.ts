/** What travels through a waypoint: HTTP/1.1, HTTP/2, gRPC, WebSocket, large and streaming bodies. TCP: tcp.ts. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { eventually } from "../../../e2e/support/wait.ts";
import { pattern } from "../apps/protocol.ts";
import { httpRoute, servicePolicy } from "../support/objects.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import type { AppPod } from "../support/stage.ts";

const LARGE_BYTES = 12 * 1024 * 1024;

/** A service in front of a pod with a tunnel, and one in front of a pod without; both are served already. */
export async function addBoth(scene: Scene, name: string): Promise<readonly (readonly [LabService, AppPod])[]> {
  const { client, alpha, plain } = await scene.stage();
  const both = [
    [await scene.addService(`${name}-tunnel`, { pods: [alpha] }), alpha],
    [await scene.addService(`${name}-plain`, { pods: [plain] }), plain],
  ] as const;
  for (const [service] of both) {
    await eventually(() => client.app.echo(service.url(), { timeoutMs: 2_000 }), 15_000);
    // A port whose protocol is not said is the last to come: then all are there.
    await eventually(() => client.app.echo(service.url("any"), { timeoutMs: 2_000 }), 15_000);
  }
  return both;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

scenario(
  "HTTP/1.1 and HTTP/2: methods, queries, repeated headers, empty and large bodies, on declared and undeclared ports",
  async (scene) => {
    const { client } = await scene.stage();
    const [large, small] = [sha256(pattern(LARGE_BYTES)), sha256(pattern(1_000))];
    for (const [service, { pod }] of await addBoth(scene, "http")) {
      for (
        const [port, protocol] of [["http", "http1"], ["http2-api", "http2"], ["any", "http1"], [
          "any",
          "http2",
        ]] as const
      ) {
        const what = `${pod.name}, ${port}, ${protocol}`;
        const url = (path: string) => service.url(port, path);
        for (const method of ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"]) {
          const { status } = await client.app.http(url("/m"), { method, protocol });
          assert.equal(status, 200, `${what}: ${method}`);
        }
        const echo = await client.app.echo(url("/a%20b/c?d=e&d=f%2F&g"), {
          protocol,
          headers: { "x-some": ["one", "two"], host: "shop.example" },
        });
        assert.equal(echo.path, "/a%20b/c?d=e&d=f%2F&g", what);
        assert.equal(echo.headers["x-some"]?.replaceAll(" ", ""), "one,two", what);
        assert.equal(echo.protocol, protocol === "http2" ? "HTTP/2" : "HTTP/1.1", what);
        const answer = await client.app.http(url("/h?header=x-a:1&header=x-a:2&header=set-cookie:a%3Db&status=201"), {
          protocol,
        });
        assert.equal(answer.status, 201, what);
        assert.equal(answer.headers["x-a"]?.replaceAll(" ", ""), "1,2", what);
        assert.equal(answer.headers["set-cookie"], "a=b", what);
        for (const [bytes, hash] of [[1_000, small], [LARGE_BYTES, large]] as const) {
          const up = await client.app.echo(url("/up"), { protocol, body: bytes, timeoutMs: 30_000 });
          assert.deepEqual([up.bytes, up.sha256], [bytes, hash], what);
          const down = await client.app.http(url(`/down?bytes=${bytes}`), { protocol, timeoutMs: 30_000 });
          assert.deepEqual([down.bytes, down.sha256], [bytes, hash], what);
        }
        const empty = await client.app.echo(url("/empty"), { protocol, body: 0 });
        assert.equal(empty.bytes, 0, what);
      }
    }
  },
);

scenario(
  "streaming: an answer in pieces comes in pieces, and 100-continue is asked for before the body is sent",
  async (scene) => {
    const { client } = await scene.stage();
    for (const [service] of await addBoth(scene, "stream")) {
      const peer = await client.pod.connect(service.vip, 80);
      peer.write("GET /?pieces=4&every=300 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
      let text = "";
      while (!text.includes("piece 0\n")) text += await peer.read(1);
      const firstMs = performance.now();
      text += (await peer.readToEnd()).text;
      // 900 ms lie between the two.
      assert.ok(performance.now() - firstMs > 300, "the first piece waited for the others");
      assert.match(text, /piece 3\n/);
      peer.close();

      const told = await client.app.echo(service.url("http", "/up"), { body: 100_000, awaitContinue: true });
      assert.equal(told.answer.continued, true);
      assert.equal(told.bytes, 100_000);
      const chunked = await client.app.echo(service.url("http", "/up"), {
        body: 300_000,
        headers: { "transfer-encoding": "chunked" },
      });
      assert.deepEqual([chunked.bytes, chunked.sha256], [300_000, sha256(pattern(300_000))]);
    }
    // A refusal comes instead of the 100, before anything of the body.
    const [[service]] = await addBoth(scene, "refuse") as [[LabService, AppPod]];
    await scene.apply(
      servicePolicy(scene.name("no-upload"), service, {
        action: "DENY",
        rules: [{ to: [{ operation: { methods: ["POST"] } }] }],
      }),
    );
    await eventually(async () => {
      const peer = await client.pod.connect(service.vip, 80);
      peer.write("POST /up HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n");
      const head = await peer.read(12);
      peer.close();
      assert.equal(head, "HTTP/1.1 403");
    }, 15_000);
  },
);

scenario("one connection carries many requests, pipelined ones too, and chunked trailers arrive", async (scene) => {
  const { client, alpha } = await scene.stage();
  const [[service]] = await addBoth(scene, "keep") as [[LabService, AppPod]];
  const peer = await client.pod.connect(service.vip, 80);
  const ask = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: shop\r\n${more}\r\n`;
  peer.write(ask("/1") + ask("/2") + ask("/3", "Connection: close\r\n"));
  const { text, end } = await peer.readToEnd();
  assert.equal(end, "eof");
  assert.deepEqual([...text.matchAll(/"path":"(\/[0-9])"/g)].map(([, path]) => path), ["/1", "/2", "/3"]);
  // A server that ends its body with trailers; the application is a socket of the test.
  const own = await scene.addService("trailers", { pods: [alpha], ports: [{ name: "http", port: 80, target: 7_000 }] });
  const server = alpha.pod.listen(7_000, (peer) => {
    void (async () => {
      for (;;) {
        for (let text = ""; !text.includes("\r\n\r\n");) text += await peer.read(1, 60_000);
        peer.write(
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
        );
      }
    })().catch(() => peer.close());
  });
  const answer = await eventually(async () => {
    const answer = await client.app.http(own.url(), { timeoutMs: 2_000 });
    assert.equal(answer.status, 200);
    return answer;
  }, 15_000);
  assert.equal(answer.body, "hello");
  const raw = await client.pod.connect(own.vip, 80);
  raw.write("GET / HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
  assert.match((await raw.readToEnd()).text, /\r\n0\r\nx-sum: 42\r\n\r\n$/i);
  raw.close();
  server.close();
});

scenario(
  "gRPC: unary, both kinds of streams and a long one, metadata, trailers, status codes and deadlines",
  async (scene) => {
    const { client } = await scene.stage();
    for (const [service, { pod }] of await addBoth(scene, "grpc")) {
      const target = service.address("grpc-api");
      const metadata = { "x-asked": "yes", "x-data-bin": "AQID" };
      const unary = await client.app.grpc(target, {
        method: "Unary",
        messages: [{ a: 1 }],
        metadata: { "x-asked": metadata["x-asked"] },
      });
      assert.equal(unary.code, 0, unary.details);
      assert.equal(unary.messages[0]!["app"], pod.name);
      assert.deepEqual(unary.messages[0]!["got"], { a: 1 });
      assert.equal((unary.messages[0]!["metadata"] as Record<string, string>)["x-asked"], "yes");
      assert.equal(unary.headers["x-begin"], pod.name);
      assert.equal(unary.trailers["x-end"], pod.name);
      const failing = await client.app.grpc(target, { method: "Unary", messages: [{ fail: 9 }] });
      assert.deepEqual([failing.code, failing.details, failing.trailers["x-end"]], [9, "as told", pod.name]);
      const many = await client.app.grpc(target, { method: "Many", messages: [{ count: 500 }] });
      assert.deepEqual([many.code, many.messages.length, many.trailers["x-end"]], [0, 500, pod.name]);
      const cut = await client.app.grpc(target, { method: "Many", messages: [{ count: 3, fail: 8 }] });
      assert.deepEqual([cut.code, cut.messages.length], [8, 3]);
      const sent = Array.from({ length: 200 }, (_, i) => ({ i, filling: "x".repeat(1_000) }));
      const collected = await client.app.grpc(target, { method: "Collect", messages: sent });
      assert.equal(collected.code, 0, collected.details);
      assert.deepEqual(collected.messages[0]!["messages"], sent);
      const late = await client.app.grpc(target, { method: "Unary", messages: [{ delayMs: 2_000 }], deadlineMs: 300 });
      assert.equal(late.code, 4);
      const chat = await client.app.chat(target);
      for (const text of ["one", "two", "three"]) assert.equal(await chat.talk(text), `${pod.name}: ${text}`);
      const end = await chat.end<{ code: number; trailers: Record<string, string> }>();
      assert.deepEqual([end.code, end.trailers["x-end"]], [0, pod.name]);
      // What the waypoint answers by itself is gRPC too.
      await scene.apply(servicePolicy(`${service.name}-policy`, service, {
        action: "DENY",
        rules: [{ to: [{ operation: { paths: ["/lab.Other/*"] } }] }],
      }));
      await eventually(async () => {
        const denied = await client.app.grpc(target, { method: "Unary", service: "lab.Other" });
        assert.deepEqual([denied.code, denied.details], [7, "RBAC: access denied"]);
      }, 15_000);
      assert.equal((await client.app.grpc(target, { method: "Unary" })).code, 0);
      await service.setPods();
      await eventually(async () => {
        const nobody = await client.app.grpc(target, { method: "Unary" });
        assert.deepEqual([nobody.code, nobody.details], [14, "no healthy upstream"]);
      }, 15_000);
    }
  },
);

scenario(
  "WebSocket: opens, talks both ways, outlives other requests, and its end is passed on; a refused one is a 403",
  async (scene) => {
    const { client } = await scene.stage();
    for (const [service, { pod }] of await addBoth(scene, "socket")) {
      for (const port of ["http", "any"]) {
        const socket = await client.app.webSocket(`ws://${service.address(port)}/socket`);
        assert.equal(await socket.talk("hello"), `${pod.name}: hello`);
        const long = "long ".repeat(50_000);
        assert.equal(await socket.talk(long), `${pod.name}: ${long}`);
        await client.app.echo(service.url(port));
        assert.equal(await socket.talk("again"), `${pod.name}: again`);
        assert.deepEqual(await socket.end(), { code: 1000, wasClean: true });
      }
      await scene.apply(httpRoute(service.name, service, [{
        matches: [{ path: { type: "PathPrefix", value: "/open" } }],
        backendRefs: [{ name: service.name, port: 80 }],
      }], 80));
      await eventually(() => assert.rejects(client.app.webSocket(`ws://${service.address()}/socket`)), 15_000);
      const routed = await client.app.webSocket(`ws://${service.address()}/open/socket`);
      assert.equal(await routed.talk("routed"), `${pod.name}: routed`);
      await routed.end();
    }
  },
);
