/** istiod's two services for the benchmark: pushes what it is told to, signs what is asked for, and notes when a push is acknowledged. */
import { createLocalCa } from "../../src/control/local/ca.ts";
import { FakeIstiod, type ServerStream } from "../../tests/control/istiod/fake_istiod.ts";
import { TestAuthority } from "../../tests/platform/authority.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "./mesh.ts";

export interface BenchIstiod {
  readonly port: number;
  /** PEM that its own certificate is verified by. */
  readonly root: string;
  /** The next ztunnel: what it gets at once. Resolves when it has acknowledged that. */
  expect(addresses: readonly Uint8Array[], policies: readonly Uint8Array[]): Promise<ConnectedZtunnel>;
  close(): Promise<void>;
}

export interface ConnectedZtunnel {
  /** Resolves with the milliseconds from the send to the acknowledgement. Rejects when it is refused. */
  push(typeUrl: string, resources: readonly Uint8Array[], removed?: readonly string[]): Promise<number>;
}

export async function startIstiod(): Promise<BenchIstiod> {
  const tls = await TestAuthority.create("istiod");
  const ca = await createLocalCa();
  const server = await FakeIstiod.start({
    material: await tls.leaf({ uris: [], dnsNames: ["localhost"] }),
    async sign({ request }) {
      const identity = request.metadata?.["ImpersonatedIdentity"] as string;
      const { chain, roots } = await ca.sign(identity, request.csr);
      return [...chain, roots.join("")];
    },
  });
  return {
    port: server.port,
    root: tls.pem,
    async expect(addresses, policies) {
      const ztunnel = new Pusher(await server.streams.take());
      await ztunnel.push(ADDRESS_TYPE, addresses);
      await ztunnel.push(AUTHORIZATION_TYPE, policies);
      return ztunnel;
    },
    close: () => server.close(),
  };
}

class Pusher implements ConnectedZtunnel {
  readonly #stream: ServerStream;
  #nonce = 0;

  constructor(stream: ServerStream) {
    this.#stream = stream;
  }

  async push(typeUrl: string, resources: readonly Uint8Array[], removed: readonly string[] = []): Promise<number> {
    const nonce = String(++this.#nonce);
    const sentMs = performance.now();
    this.#stream.send({ typeUrl, nonce, resources: [...resources], removedResources: [...removed] });
    for (;;) {
      const request = await this.#stream.requests.take();
      if (request.responseNonce !== nonce) continue;
      if (request.errorDetail !== undefined) throw new Error(`refused: ${request.errorDetail.message}`);
      return performance.now() - sentMs;
    }
  }
}
