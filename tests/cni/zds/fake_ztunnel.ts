/** A ztunnel on the wire, for tests: says and answers what it is told to, on a real socket, without a thread. */
import { readdirSync } from "node:fs";
import { EAGAIN } from "../../../src/platform/errno.ts";
import { connectSeqpacket, MessageReceiver, MessageSender } from "../../../src/platform/seqpacket.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { fileIdentity } from "../../../src/platform/netns.ts";
import { decodeRequest, encodeHello, encodeResponse, type ZdsRequest } from "../../../src/protocol/zds.ts";

export interface Heard {
  readonly request: ZdsRequest;
  /** Identities of what came with it. */
  readonly namespaces: readonly (string | undefined)[];
}

export type Answer = Uint8Array | "nothing" | "leave" | undefined;

export class FakeZtunnel {
  readonly heard: Heard[] = [];
  /** What it answers to each request; undefined: a plain acknowledgement. */
  answer: (request: ZdsRequest) => Answer = () => undefined;
  ended = false;
  readonly #fd: number;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #receiver = new MessageReceiver(1024);
  readonly #sender = new MessageSender(1024);

  constructor(path: string, hello: Uint8Array | null = encodeHello()) {
    this.#fd = connectSeqpacket(path);
    if (this.#fd < 0) throw new Error(`cannot connect to ${path}: ${this.#fd}`);
    if (hello !== null) this.say(hello);
    this.#timer = setInterval(() => this.#poll(), 1);
  }

  say(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#sender.send(this.#fd, bytes, fds);
  }

  kinds(): string[] {
    return this.heard.map(({ request }) =>
      request.kind === "snapshot_sent" ? request.kind : `${request.kind} ${request.uid}`
    );
  }

  leave(): void {
    if (this.ended) return;
    this.ended = true;
    clearInterval(this.#timer);
    closeDescriptor(this.#fd);
  }

  #poll(): void {
    while (!this.ended) {
      const length = this.#receiver.receive(this.#fd);
      if (length === -EAGAIN) return;
      const namespaces = this.#receiver.fds.map(fileIdentity);
      this.#receiver.closeDescriptors();
      if (length <= 0) return this.leave();
      const request = decodeRequest(this.#receiver.copy(length));
      this.heard.push({ request, namespaces });
      const answer = this.answer(request);
      if (answer === "leave") return this.leave();
      if (answer !== "nothing") this.say(answer ?? encodeResponse());
    }
  }
}

/** Waits until `test` is true. */
export async function until(test: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  for (const endMs = performance.now() + timeoutMs; !test();) {
    if (performance.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Descriptors this process has. */
export const openFiles = () => readdirSync("/proc/self/fd").length;

/** When what earlier tests had open is closed. */
export async function settledFiles(): Promise<number> {
  for (let before = -1;;) {
    const now = openFiles();
    if (now === before) return now;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
}
