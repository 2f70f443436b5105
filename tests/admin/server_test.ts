import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { listen } from "../../src/admin/server.ts";
import type { App } from "../../src/admin/server.ts";
import { Stopwatch } from "../support/stopwatch.ts";

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
function raw(port: number, text: string): Promise<{ received: string; ms: number; wallMs: number }> {
  return new Promise((resolve, reject) => {
    const watch = new Stopwatch();
    let received = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    socket.setEncoding("utf8");
    socket.on("data", (chunk) => received += chunk);
    socket.on("error", reject);
    socket.on("close", () => resolve({ received, ...watch.stop() }));
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
    for (const { ms, wallMs } of [slow, silent]) assert.ok(wallMs > 1500 && ms < 6000, `${ms} ms`);
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

test("admin server: a long body is sent as it is made, and its maker waits for a slow reader", async () => {
  let made = 0;
  const piece = new Uint8Array(64 * 1024).fill(120);
  const PIECES = 400;
  const server = await listen("127.0.0.1", 0, {
    fetch: () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            if (made++ === PIECES) controller.close();
            else controller.enqueue(piece);
          },
        }, { highWaterMark: 0 }),
      ),
  });
  try {
    const received = await new Promise<number>((resolve, reject) => {
      const call = request({ port: server.port, host: "127.0.0.1", agent: false }, (response) => {
        let size = 0;
        setTimeout(() => {
          // 25 MB do not fit into the kernel's buffers.
          if (made > PIECES - 50) reject(new Error(`${made} pieces were made for a reader that reads nothing`));
          response.on("data", (chunk: Uint8Array) => size += chunk.length);
          response.on("end", () => resolve(size));
          response.resume();
        }, 100);
        response.pause();
      });
      call.on("error", reject);
      call.end();
    });
    assert.equal(received, PIECES * piece.length);
  } finally {
    await server.close(0);
  }
});

test("admin server: a body that fails is a 500, or breaks the connection off if it had begun", async () => {
  let made = 0;
  const failing = (good: number) =>
    new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (made++ >= good) controller.error(new Error("no more"));
        else controller.enqueue(new TextEncoder().encode("piece"));
      },
    }, { highWaterMark: 0 });
  let good = 0;
  const server = await listen("127.0.0.1", 0, { fetch: () => new Response(failing(good)) });
  try {
    const early = await raw(server.port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert.match(early.received, /^HTTP\/1\.1 500 [^]*no more\n/);
    made = 0;
    good = 4;
    const late = await raw(server.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert.match(late.received, /^HTTP\/1\.1 200 [^]*piece/);
    // The last chunk, of no length, is what would say that this is all.
    assert.doesNotMatch(late.received, /\r\n0\r\n\r\n/);
  } finally {
    await server.close(0);
  }
});

test("admin server: connections above the limit are closed, and said", async () => {
  let full = 0;
  const server = await listen("127.0.0.1", 0, hello, () => full++);
  const sockets: ReturnType<typeof connect>[] = [];
  try {
    for (let i = 0; i < 512; i++) {
      sockets.push(
        await new Promise((resolve) => {
          const socket = connect(server.port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
          socket.on("error", () => {});
          // Bun counts a connection from its first byte on.
          socket.once("data", () => resolve(socket));
        }),
      );
    }
    const { received } = await raw(server.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").catch(() => ({ received: "" }));
    assert.equal(received, "");
    assert.equal(full, 1);
  } finally {
    for (const socket of sockets) socket.destroy();
    await server.close(0);
  }
});
