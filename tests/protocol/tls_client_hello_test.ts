/** The server name of a ClientHello, from hellos of real clients and from broken ones. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { connect } from "node:tls";
import { MAX_CLIENT_HELLO, readClientHello } from "../../src/protocol/tls_client_hello.ts";

/** What the runtime's own TLS says first. */
async function realHello(servername: string): Promise<Uint8Array> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, "connection");
  const client = connect({ host: "127.0.0.1", port, servername, rejectUnauthorized: false });
  client.on("error", () => {});
  const [socket] = await accepted;
  socket.on("error", () => {});
  const parts: Uint8Array[] = [];
  await new Promise<void>((done) =>
    socket.on("data", (bytes: Uint8Array) => {
      parts.push(new Uint8Array(bytes));
      if (readClientHello(joined(parts)).kind !== "more") done();
    })
  );
  client.destroy();
  socket.destroy();
  server.close();
  return joined(parts);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** The same message in records of at most `size` bytes. */
function rerecorded(hello: Uint8Array, size: number): Uint8Array {
  const body = hello.subarray(5);
  const bytes: number[] = [];
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size);
    bytes.push(22, 3, 1, part.length >> 8, part.length & 0xff, ...part);
  }
  return new Uint8Array(bytes);
}

test("tls client hello: a real client's server name, in lower case, for every split", async () => {
  const hello = await realHello("Api.Example.com");
  for (let end = 0; end < hello.length; end++) {
    assert.equal(readClientHello(hello.subarray(0, end)).kind, "more", `${end} of ${hello.length}`);
  }
  assert.deepEqual(readClientHello(hello), { kind: "hello", sni: "api.example.com" });
  for (const size of [1, 3, 100]) {
    assert.deepEqual(readClientHello(rerecorded(hello, size)), { kind: "hello", sni: "api.example.com" });
  }
});

test("tls client hello: what is none is told at the first byte that says so", () => {
  for (const bytes of [[71], [22, 2], [22, 3, 1, 0, 0], [22, 3, 1, 0x40, 1], [22, 3, 1, 0, 4, 2], [21, 3, 3]]) {
    assert.deepEqual(readClientHello(Uint8Array.from(bytes)), { kind: "none" }, bytes.join());
  }
  const tooLong = [22, 3, 1, 0, 4, 1, 0, (MAX_CLIENT_HELLO >> 8) & 0xff, 0xff];
  assert.deepEqual(readClientHello(Uint8Array.from(tooLong)), { kind: "none" });
});

test("tls client hello: lengths that lead out of the message make it none", async () => {
  const hello = await realHello("a.example");
  let changed = 0;
  for (let at = 9; at < hello.length; at++) {
    const broken = new Uint8Array(hello);
    broken[at] ^= 0xff;
    const outcome = readClientHello(broken);
    if (outcome.kind === "none") changed++;
    if (outcome.kind === "hello") assert.ok(outcome.sni === "" || /^[a-z0-9_.-]+$/.test(outcome.sni));
  }
  assert.ok(changed > 0);
});
