import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { listen } from "../../src/admin/server.ts";
import type { App } from "../../src/admin/server.ts";

const hello: App = {
  fetch: (request) => {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/throw") throw new Error("it broke");
    return new Response(`${request.method} ${pathname}${search} ${request.headers.get("x-a") ?? ""}`, {
      headers: { "x-b": "c" },
    });
  },
};

/** Sends raw text and gives everything received until the server closes, and how long that took. */
function raw(port: number, text: string): Promise<{ received: string; ms: number }> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    let received = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    socket.setEncoding("utf8");
    socket.on("data", (chunk) => received += chunk);
    socket.on("error", reject);
    socket.on("close", () => resolve({ received, ms: performance.now() - started }));
  });
}

test("admin server: serves requests with method, path, headers and keep-alive", async () => {
  const server = await listen("127.0.0.1", 0, hello);
  try {
    const { received } = await raw(
      server.port,
      "POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: y\r\nContent-Length: 3\r\n\r\nabc" +
        "HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n" +
        "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert.equal(received.match(/HTTP\/1\.1 200 OK/g)?.length, 3);
    assert.match(received, /\r\n\r\nPOST \/a\?b=c y/);
    assert.match(received, /\r\n\r\nGET \/last $/);
    assert.doesNotMatch(received, /HEAD \/h/);
    assert.match(received, /x-b: c/i);
  } finally {
    await server.close(0);
  }
});

test("admin server: listens on every address of both families", async () => {
  const server = await listen("::", 0, hello);
  try {
    for (const host of ["127.0.0.1", "[::1]"]) {
      assert.equal((await fetch(`http://${host}:${server.port}/`)).status, 200, host);
    }
  } finally {
    await server.close(0);
  }
});

test("admin server: a throwing handler is a 500 with its text", async () => {
  const server = await listen("127.0.0.1", 0, hello);
  try {
    const response = await fetch(`http://127.0.0.1:${server.port}/throw`);
    assert.equal(response.status, 500);
    assert.equal(await response.text(), "it broke\n");
  } finally {
    await server.close(0);
  }
});

test("admin server: refuses headers above 8 KiB, what is not HTTP, and slow headers", async () => {
  const server = await listen("127.0.0.1", 0, hello);
  try {
    const [large, garbage, slow, silent] = await Promise.all([
      raw(server.port, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"a".repeat(8200)}\r\n\r\n`),
      raw(server.port, "\x16\x03\x01garbage\r\n\r\n"),
      raw(server.port, "GET / HTTP/1.1\r\nHost:"),
      raw(server.port, ""),
    ]);
    assert.match(large.received, /^HTTP\/1\.1 431 /);
    assert.match(garbage.received, /^HTTP\/1\.1 400 /);
    assert.match(slow.received, /^HTTP\/1\.1 408 /);
    for (const { ms } of [slow, silent]) assert.ok(ms > 1500 && ms < 6000, `${ms} ms`);
  } finally {
    await server.close(0);
  }
});

test("admin server: closing answers the request under way and takes no more", async () => {
  let release = () => {};
  const arrived = Promise.withResolvers<void>();
  const gate = new Promise<void>((resolve) => release = resolve);
  const server = await listen("127.0.0.1", 0, {
    fetch: async () => {
      arrived.resolve();
      await gate;
      return new Response("late");
    },
  });
  const answered = raw(server.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await arrived.promise;
  const closed = server.close(10_000);
  await assert.rejects(raw(server.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), /ECONNREFUSED/);
  release();
  assert.match((await answered).received, /\r\n\r\nlate$/);
  await closed;
});

test("admin server: closing cuts what does not end in time", async () => {
  const server = await listen("127.0.0.1", 0, { fetch: () => new Promise<Response>(() => {}) });
  const pending = new Promise<string>((resolve) => {
    const call = request({ port: server.port, host: "127.0.0.1" });
    call.on("error", (error) => resolve(error.message));
    call.on("socket", (socket) => socket.on("connect", () => setImmediate(() => void server.close(50))));
    call.end();
  });
  assert.match(await pending, /hang up|reset|closed|ECONNRESET|terminated|before/i);
});

test("admin server: an address in use is an error at the start", async () => {
  const server = await listen("127.0.0.1", 0, hello);
  try {
    await assert.rejects(
      listen("127.0.0.1", server.port, hello),
      (error: Error & { code?: string }) => error.code === "EADDRINUSE",
    );
  } finally {
    await server.close(0);
  }
});
