import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { HandshakeFailure, HboneConnection, TunnelStream } from "../../src/hbone/connection.ts";
import { NestedLink } from "../../src/hbone/nested_link.ts";
import { EPOLLIN } from "../../src/platform/epoll.ts";
import { TlsContext } from "../../src/platform/tls_context.ts";
import { TlsSession } from "../../src/platform/tls_session.ts";
import { TlsWire } from "../../src/platform/tls_wire.ts";
import { createLoop } from "../net/support.ts";
import { createMaterial, type Material } from "./support.ts";

let material: Material;

before(async () => {
  material = await createMaterial();
});

const ROOM = 64 * 1024;

/** A link whose far end is a TLS session of the test; the outer tunnel takes everything and gives what it is told. */
class Far {
  readonly loop = createLoop();
  readonly events: string[] = [];
  failure: HandshakeFailure | undefined;
  readonly link: NestedLink;
  readonly #wire = new TlsWire();
  readonly #session: TlsSession;
  readonly #contexts: readonly TlsContext[];
  readonly #stream = { consume() {}, user: undefined } as unknown as TunnelStream;

  constructor() {
    const output = { bytes: new Uint8Array(9 + ROOM), start: 0, end: 0 };
    const outer = {
      h2: {
        output,
        reserveData: (_: unknown, wanted: number) => Math.min(wanted, ROOM),
        commitData: (_: unknown, n: number) => void this.#wire.put(output.bytes, 9, 9 + n),
        endStream() {},
        resetStream() {},
      },
      touch() {},
    };
    Object.defineProperty(outer, "failure", { get: () => this.failure });
    this.#contexts = [new TlsContext("client", material.client), new TlsContext("server", material.server)];
    this.#session = new TlsSession(this.#contexts[1], this.#wire);
    this.link = new NestedLink(
      this.loop.io,
      outer as unknown as HboneConnection,
      this.#stream,
      this.#contexts[0],
      { outerLost: (reason: string) => void this.events.push(reason) } as ConstructorParameters<typeof NestedLink>[4],
    );
    for (let i = 0; i < 4; i++) {
      this.link.session.handshake();
      this.link.flushed();
      this.#session.handshake();
      this.deliver();
      this.loop.settle();
    }
    const bytes = new Uint8Array(ROOM);
    this.link.open({
      ready: () => {
        for (let n = 1; n > 0;) {
          n = this.link.session.read(bytes, 0, bytes.length);
          if (n > 0) this.events.push(new TextDecoder().decode(bytes.subarray(0, n)));
        }
        this.link.flushed();
      },
    });
    this.link.watch(EPOLLIN);
  }

  say(text: string): void {
    const bytes = new TextEncoder().encode(text);
    assert.equal(this.#session.write(bytes, 0, bytes.length), bytes.length);
    this.deliver();
  }

  deliver(): void {
    const bytes = new Uint8Array(ROOM);
    const n = this.#wire.take(bytes, 0, bytes.length);
    if (n > 0) this.link.data(this.#stream, bytes, 0, n, false);
  }

  reset(): void {
    this.link.reset(this.#stream, 8);
    this.link.closed();
  }

  close(): void {
    this.link.close();
    this.link.session.free();
    this.#session.free();
    for (const context of this.#contexts) context.close();
    this.loop.reactor.dispose();
  }
}

describe("nested_link", () => {
  test("nested_link: what the far end said last is read, though its stream is reset behind it", () => {
    const far = new Far();
    far.say("last words");
    far.reset();
    far.loop.settle();
    assert.deepEqual(far.events, ["last words", "the tunnel to the gateway was reset with HTTP/2 error 8"]);
    far.close();
  });

  test("nested_link: with nothing left to read a reset is told at once, once", () => {
    const far = new Far();
    far.reset();
    assert.equal(far.events.length, 1);
    far.loop.settle();
    assert.equal(far.events.length, 1);
    far.close();
  });

  test("nested_link: a gateway whose certificate is revoked is not listened to any more", () => {
    const far = new Far();
    far.say("last words");
    far.failure = { stage: "revoked", message: "revoked" };
    far.reset();
    assert.equal(far.events.length, 1);
    far.close();
  });
});
