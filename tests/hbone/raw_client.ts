/** Clients that HBONE servers should not trust: raw bytes inside a real TLS session, and OpenSSL's own command. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeDescriptor } from "../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TLS_CLOSED, TLS_FAILED, TLS_WANT_READ, TlsSession } from "../../src/platform/tls_session.ts";
import { PREFACE } from "../../src/protocol/http2/constants.ts";
import type { Loop } from "../net/support.ts";
import { connectToLoopback } from "../platform/support.ts";

/** A client that is done with TLS and says what the test tells it. */
export class RawClient {
  readonly session: TlsSession;
  readonly #loop: Loop;
  readonly #fd: number;
  /** The server ended the connection. */
  ended = false;
  received: number[] = [];

  constructor(loop: Loop, port: number, material: TlsMaterial) {
    this.#loop = loop;
    this.#fd = connectToLoopback(port);
    const context = new TlsContext("client", material);
    this.session = new TlsSession(context, this.#fd);
    context.close();
    let outcome = TLS_WANT_READ;
    loop.until(() => {
      if (outcome !== 1) outcome = this.session.handshake();
      return outcome === 1 || outcome === TLS_FAILED;
    }, "the handshake");
    assert.equal(outcome, 1, this.session.failure);
  }

  send(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const n = this.session.write(bytes, at, bytes.length);
      if (n > 0) at += n;
      else if (n === TLS_CLOSED || n === TLS_FAILED) return;
      else this.#loop.reactor.turn(10);
    }
  }

  /** The client's part of the opening: preface and empty SETTINGS. */
  open(): void {
    this.send(PREFACE);
    this.send(frame(4, 0, 0, new Uint8Array(0)));
  }

  /** Reads what is there. */
  poll(): void {
    const buffer = new Uint8Array(16_384);
    for (;;) {
      const n = this.session.read(buffer, 0, buffer.length);
      if (n > 0) this.received.push(...buffer.subarray(0, n));
      else {
        if (n === TLS_CLOSED || n === TLS_FAILED) this.ended = true;
        return;
      }
    }
  }

  /** Types of the frames received, in order. */
  frameTypes(): number[] {
    const types: number[] = [];
    const bytes = this.received;
    for (let at = 0; at + 9 <= bytes.length;) {
      types.push(bytes[at + 3]);
      at += 9 + (bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2]);
    }
    return types;
  }

  close(): void {
    this.session.free();
    closeDescriptor(this.#fd);
  }
}

/** An HTTP/2 frame. */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(9 + payload.length);
  bytes.set([payload.length >> 16, payload.length >> 8, payload.length, type, flags]);
  new DataView(bytes.buffer).setUint32(5, streamId);
  bytes.set(payload, 9);
  return bytes;
}

/** `openssl s_client` against a port, while the loop turns; resolves with all that it wrote. */
export async function opensslClient(
  loop: Loop,
  port: number,
  material: TlsMaterial | undefined,
  roots: readonly string[],
  ...args: readonly string[]
): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "ambit-s-client-"));
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  const identity = material === undefined ? [] : [
    "-cert",
    file("chain.pem", material.chain.join("\n")),
    "-key",
    file("key.pem", material.privateKey),
  ];
  const child = spawn("openssl", [
    "s_client",
    "-connect",
    `127.0.0.1:${port}`,
    "-CAfile",
    file("roots.pem", roots.join("\n")),
    ...identity,
    ...args,
  ]);
  let output = "";
  let done = false;
  child.stdout.on("data", (chunk) => output += String(chunk));
  child.stderr.on("data", (chunk) => output += String(chunk));
  child.on("close", () => done = true);
  const deadline = performance.now() + 10_000;
  let said = false;
  while (!done) {
    assert.ok(performance.now() < deadline, `openssl does not end: ${output}`);
    loop.reactor.turn(1);
    // It reports the session once the handshake is over; the end of its input then ends it.
    if (!said && output.includes("Verify return code")) {
      said = true;
      loop.settle();
      child.stdin.end();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  rmSync(directory, { recursive: true });
  return output;
}
