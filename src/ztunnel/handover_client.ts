/**
 * The new process' side of an upgrade: it asks the one that runs for the listening sockets of each pod. What it gets is not trusted:
 * pod_listeners.ts looks at each socket. Without an answer the pod gets sockets of its own beside the old ones (SO_REUSEPORT).
 */
import process from "node:process";
import { decodeHandoverAnswer, encodeHandoverRequest } from "./handover_messages.ts";
import type { Link, LinkHandler } from "./links.ts";

export interface HandoverClientOptions {
  readonly path: string;
  readonly connect: (path: string, handler: LinkHandler) => Link;
  readonly closeDescriptor: (fd: number) => void;
  /** The other process, whose sockets this one has too, is gone. */
  readonly gone: () => void;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  readonly log: (level: "info" | "warn" | "debug", message: string, error?: string) => void;
}

/** An answer takes a few milliseconds; the node agent waits 5 s for the pod. */
const ANSWER_MS = 1_000;
const NOTHING: ReadonlyMap<string, number> = new Map();

interface Question {
  readonly answered: (sockets: ReadonlyMap<string, number>) => void;
}

export class HandoverClient {
  readonly #options: HandoverClientOptions;
  readonly #questions = new Map<string, Question>();
  #link: Link | undefined;
  /** Resolves when it is clear whether there is somebody to take over from. */
  readonly connected: Promise<boolean>;

  constructor(options: HandoverClientOptions) {
    this.#options = options;
    this.connected = new Promise((resolve) => {
      const cancel = options.schedule(() => resolve(false), ANSWER_MS);
      const settled = (there: boolean) => {
        cancel();
        resolve(there);
      };
      this.#link = options.connect(options.path, {
        connected: (uid) => {
          if (uid === process.getuid?.()) {
            options.log("info", "another ztunnel serves this node: its listeners are taken over");
            return settled(true);
          }
          options.log("warn", "no hand-over", `the process at ${options.path} belongs to user ${uid}`);
          this.close();
          settled(false);
        },
        message: (bytes, fds) => this.#answer(bytes, fds),
        closed: (reason) => {
          options.log("debug", "no ztunnel to take over from", reason);
          this.close();
          settled(false);
          options.gone();
        },
      });
    });
  }

  /** The sockets of a pod by kind, now the caller's; none when nobody has any. Ask once at a time for a pod. */
  async fetch(uid: string, netns: string): Promise<ReadonlyMap<string, number>> {
    await this.connected;
    const link = this.#link;
    if (link === undefined) return NOTHING;
    return await new Promise((resolve) => {
      const cancel = this.#options.schedule(() => {
        this.#options.log("warn", "no hand-over", `no answer within ${ANSWER_MS} ms`);
        // Its answer, if it still comes, would be another question's.
        this.close();
      }, ANSWER_MS);
      this.#questions.set(uid, {
        answered: (sockets) => {
          cancel();
          this.#questions.delete(uid);
          resolve(sockets);
        },
      });
      link.send(encodeHandoverRequest({ uid, netns }));
    });
  }

  close(): void {
    const link = this.#link;
    this.#link = undefined;
    link?.close();
    for (const question of [...this.#questions.values()]) question.answered(NOTHING);
  }

  #answer(bytes: Uint8Array, fds: readonly number[]): void {
    const answer = decodeHandoverAnswer(bytes);
    const question = answer === undefined ? undefined : this.#questions.get(answer.uid);
    if (answer === undefined || question === undefined || answer.sockets.length !== fds.length) {
      for (const fd of fds) this.#options.closeDescriptor(fd);
      this.#options.log("warn", "no hand-over", "the answer cannot be used");
      return this.close();
    }
    question.answered(new Map(answer.sockets.map((name, i) => [name, fds[i]])));
  }
}
