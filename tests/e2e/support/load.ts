/** Clients that make one connection after the other, each a request with a checked answer, until they are told to stop. */
import { NetworkError } from "./errors.ts";
import type { Server } from "./lab.ts";
import type { TestPod } from "./mesh.ts";
import type { Peer, PeerEnd } from "./peer.ts";

export const REQUEST = "hello";
export const ANSWER_BYTES = 96 * 1024;
const ANSWER = new Uint8Array(ANSWER_BYTES).fill(97);

export interface Attempt {
  /** When the connection stood, by `performance.now()`; undefined when it was refused. */
  readonly connectedMs: number | undefined;
  readonly received: number;
  readonly end: PeerEnd;
}

export function complete({ received, end }: Attempt): boolean {
  return received === ANSWER_BYTES && end === "eof";
}

/** The application that answers. `accepted` counts requests that reached it, `answered` those that it could answer. */
export function serveLoad(pod: Pick<TestPod, "listen">, port: number): Server & { accepted: number } {
  const served = {
    accepted: 0,
    close: () => server.close(),
  };
  const answer = async (peer: Peer) => {
    await peer.read(REQUEST.length, 60_000);
    served.accepted++;
    peer.write(ANSWER);
    peer.finish();
    await peer.ended(60_000);
    peer.close();
  };
  const server = pod.listen(port, (peer) => void answer(peer).catch(() => peer.close()));
  return served;
}

export class Load {
  readonly attempts: Attempt[] = [];
  #stopped = false;
  readonly #clients: Promise<void>[];
  readonly #open: () => Promise<Peer>;

  /** `open` makes a connection to a {@link serveLoad}. */
  constructor(clients: number, open: () => Promise<Peer>) {
    this.#open = open;
    this.#clients = Array.from({ length: clients }, () => this.#run());
  }

  get completed(): number {
    return this.attempts.filter(complete).length;
  }

  /** Lets each client finish what it has begun. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const attempt = await this.#attempt();
      this.attempts.push(attempt);
      // A refusal comes at once: no need to ask a hundred times a millisecond.
      if (!complete(attempt)) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async #attempt(): Promise<Attempt> {
    let peer: Peer;
    try {
      peer = await this.#open();
    } catch (error) {
      if (error instanceof NetworkError) return { connectedMs: undefined, received: 0, end: error.code };
      throw error;
    }
    const connectedMs = performance.now();
    peer.write(REQUEST);
    const end = await peer.ended();
    peer.close();
    return { connectedMs, received: peer.received, end };
  }
}
