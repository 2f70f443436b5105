/**
 * The conversation with one ztunnel, reference cni.md section 3.8. Sans-io: sockets, timers and the clock come in.
 *
 * Strictly one message, then its answer; answers have no numbers, so a connection whose answer is overdue is closed: a late one would
 * be taken for that of the next message. ztunnel comes again and is told everything anew.
 */
import { decodeHello, decodeResponse, encodeRequest, ZDS_MESSAGE_BYTES, type ZdsRequest } from "../../protocol/zds.ts";
import type { PodNetns } from "../netns/pod_netns.ts";
import type { Ask, AskOutcome, SnapshotPod } from "./ask.ts";

export interface ConversationHost {
  /** For the hello, for a message to be sent, and for its answer, each. */
  readonly deadlineMs: number;
  /** Hands a message to the socket; `sent` tells how it went. One reference to the namespace goes with it. */
  send(message: number, bytes: Uint8Array, netns: PodNetns | undefined): void;
  /** Closes the socket. */
  close(): void;
  /** Called once, when the conversation is over, before its asks are settled. */
  ended(reason: string, quiet: boolean): void;
  /** Every pod, when ztunnel has said hello. */
  snapshot(): Iterable<SnapshotPod>;
  /** Every pod of the snapshot is told and answered. */
  ready(): void;
  schedule(task: () => void, delayMs: number): () => void;
  log(
    level: "error" | "warn" | "info" | "debug",
    message: string,
    fields?: Readonly<Record<string, string | number>>,
  ): void;
}

/** What the plugin's caller waits, too. */
export const DEADLINE_MS = 5_000;
/** Messages that wait for their turn; more wait for a place, as long as for an answer. */
export const QUEUE_LENGTH = 100;
/** No more wait at all. */
export const MAX_WAITING = 2_000;

interface Queued {
  readonly ask: Ask;
  readonly bytes: Uint8Array;
  cancelWait: () => void;
}

/** What is under way: a queued ask, or a message of the snapshot, which nobody waits for. */
interface Outstanding {
  readonly number: number;
  readonly kind: ZdsRequest["kind"];
  readonly uid: string;
  readonly queued: Queued | undefined;
}

type State =
  | { readonly is: "greeting" }
  | { readonly is: "telling"; readonly rest: Iterator<SnapshotPod> }
  | { readonly is: "serving" }
  | { readonly is: "over"; readonly reason: string };

export class Conversation {
  readonly #host: ConversationHost;
  #state: State = { is: "greeting" };
  #queue: Queued[] = [];
  #outstanding: Outstanding | undefined;
  #cancelDeadline: () => void = () => {};
  #messages = 0;
  readonly #acked = new Set<string>();

  constructor(host: ConversationHost) {
    this.#host = host;
    this.#await("ztunnel did not say hello");
  }

  get hasGreeted(): boolean {
    return this.#state.is === "telling" || this.#state.is === "serving";
  }

  get isServing(): boolean {
    return this.#state.is === "serving";
  }

  /** Messages that wait, the one under way included. */
  get queued(): number {
    return this.#queue.length + (this.#outstanding === undefined ? 0 : 1);
  }

  /** Pods that this ztunnel has acknowledged to serve. */
  get acked(): ReadonlySet<string> {
    return this.#acked;
  }

  /** Enters a message. What it returns withdraws it; one that is under way goes on without anybody waiting. */
  ask(ask: Ask): () => void {
    let open = true;
    const settled = (outcome: AskOutcome) => {
      if (!open) return;
      open = false;
      queueMicrotask(() => ask.settled(outcome));
    };
    const state = this.#state;
    const bytes = encodeRequest(ask.request);
    if (state.is === "over") settled({ is: "lost", reason: state.reason });
    else if (bytes.length > ZDS_MESSAGE_BYTES) settled({ is: "failed", error: tooLong(ask.request, bytes) });
    else if (this.#queue.length >= MAX_WAITING) {
      settled({ is: "failed", error: `${MAX_WAITING} messages wait for ztunnel already` });
    } else this.#enter({ ask: { ...ask, settled }, bytes, cancelWait: () => {} });
    return () => {
      open = false;
      const at = this.#queue.findIndex((queued) => queued.ask.settled === settled);
      if (at !== -1) this.#remove(at);
    };
  }

  /** A message came. `damage` says what of it is lost. */
  received(bytes: Uint8Array, damage: string | undefined): void {
    const state = this.#state;
    if (state.is === "over") return;
    if (damage !== undefined) return this.end(`ztunnel broke the protocol: ${damage}`);
    try {
      if (state.is === "greeting") return this.#greeted(decodeHello(bytes));
      if (this.#outstanding === undefined) return this.end("ztunnel broke the protocol: it spoke unasked");
      this.#answered(decodeResponse(bytes));
    } catch (error) {
      this.end(`ztunnel broke the protocol: ${(error as Error).message}`);
    }
  }

  /** The message was handed to the kernel, or could not be, and the connection is as before. */
  sent(message: number, error: string | undefined): void {
    const outstanding = this.#outstanding;
    if (outstanding?.number !== message) return;
    if (error === undefined) return this.#await("ztunnel did not answer", outstanding);
    this.#outstanding = undefined;
    this.#cancelDeadline();
    this.#finish(outstanding, { is: "failed", error: `cannot send to ztunnel: ${error}` });
    this.#next();
  }

  /** Ends the conversation, from either side. `quiet`: it is nothing to wonder at. */
  end(reason: string, quiet = false, overdue = false): void {
    if (this.#state.is === "over") return;
    this.#state = { is: "over", reason };
    this.#cancelDeadline();
    this.#host.close();
    this.#host.ended(reason, quiet);
    const outstanding = this.#outstanding;
    this.#outstanding = undefined;
    if (outstanding !== undefined) {
      this.#finish(outstanding, overdue ? { is: "failed", error: reason } : { is: "lost", reason });
    }
    const queue = this.#queue;
    this.#queue = [];
    for (const { ask, cancelWait } of queue) {
      cancelWait();
      ask.settled({ is: "lost", reason });
    }
  }

  #enter(queued: Queued): void {
    if (this.#queue.push(queued) > QUEUE_LENGTH) {
      queued.cancelWait = this.#host.schedule(() => {
        const at = this.#queue.indexOf(queued);
        if (at === -1) return;
        this.#remove(at);
        queued.ask.settled({
          is: "failed",
          error: `ztunnel is too slow: ${QUEUE_LENGTH} messages were before this one for ${
            this.#host.deadlineMs / 1000
          } s`,
        });
      }, this.#host.deadlineMs);
    }
    if (this.#state.is === "serving") this.#next();
  }

  #remove(at: number): void {
    const [{ cancelWait }] = this.#queue.splice(at, 1);
    cancelWait();
    // Those behind it are one place further on.
    this.#queue[QUEUE_LENGTH - 1]?.cancelWait();
  }

  #greeted(version: number): void {
    if (version !== 1) return this.end(`ztunnel broke the protocol: its hello names version ${version}, not 1`);
    this.#cancelDeadline();
    // At once: every pod is either in here, or its add comes behind.
    this.#state = { is: "telling", rest: [...this.#host.snapshot()][Symbol.iterator]() };
    this.#next();
  }

  #answered(error: string | undefined): void {
    const outstanding = this.#outstanding as Outstanding;
    this.#outstanding = undefined;
    this.#cancelDeadline();
    this.#finish(outstanding, error === undefined ? { is: "acked" } : { is: "refused", error });
    if (this.#state.is !== "over") this.#next();
  }

  #finish({ kind, uid, queued }: Outstanding, outcome: AskOutcome): void {
    if (outcome.is === "acked") {
      if (kind === "add") this.#acked.add(uid);
      else if (kind === "del") this.#acked.delete(uid);
    } else if (kind === "add") this.#acked.delete(uid);
    if (queued !== undefined) return queued.ask.settled(outcome);
    if (outcome.is === "refused" || outcome.is === "failed") {
      this.#host.log("error", `failed to tell ztunnel of the snapshot: ${outcome.error}`, uid === "" ? {} : { uid });
    }
    if (kind === "snapshot_sent" && this.#state.is === "telling" && outcome.is !== "failed") {
      this.#state = { is: "serving" };
      this.#host.ready();
    } else if (kind === "snapshot_sent" && outcome.is === "failed") {
      this.end(`the end of the snapshot: ${outcome.error}`);
    }
  }

  /** Sends the next message, if there is one. */
  #next(): void {
    if (this.#outstanding !== undefined) return;
    if (this.#state.is === "telling") return this.#tell(this.#state.rest);
    const queued = this.#queue[0];
    if (this.#state.is !== "serving" || queued === undefined) return;
    this.#remove(0);
    const { request, netns } = queued.ask;
    if (request.kind === "add" && (netns === undefined || !netns.retain())) {
      queued.ask.settled({ is: "failed", error: `the network namespace of pod ${request.uid} is closed` });
      return this.#next();
    }
    this.#send(request.kind, request.uid, queued.bytes, netns, queued);
  }

  #tell(rest: Iterator<SnapshotPod>): void {
    for (;;) {
      const { done, value } = rest.next();
      if (done) return this.#send("snapshot_sent", "", encodeRequest({ kind: "snapshot_sent" }), undefined, undefined);
      const { uid, workload, netns } = value;
      if (netns === undefined || workload === undefined) {
        this.#host.log("info", "netns is not available for pod, sending 'keep' to ztunnel", { uid });
        if (this.#keep(uid)) return;
        continue;
      }
      // Taken out meanwhile: ztunnel is to know nothing of it, and a delete comes behind.
      if (!netns.retain()) continue;
      const request = { kind: "add", uid, workload } as const;
      const bytes = encodeRequest(request);
      if (bytes.length <= ZDS_MESSAGE_BYTES) return this.#send("add", uid, bytes, netns, undefined);
      netns.release();
      this.#host.log("error", tooLong(request, bytes), { uid });
      if (this.#keep(uid)) return;
    }
  }

  /** False when not even that fits a message. */
  #keep(uid: string): boolean {
    const bytes = encodeRequest({ kind: "keep", uid });
    if (bytes.length > ZDS_MESSAGE_BYTES) return false;
    this.#send("keep", uid, bytes, undefined, undefined);
    return true;
  }

  #send(
    kind: ZdsRequest["kind"],
    uid: string,
    bytes: Uint8Array,
    netns: PodNetns | undefined,
    queued: Queued | undefined,
  ): void {
    const outstanding: Outstanding = { number: ++this.#messages, kind, uid, queued };
    this.#outstanding = outstanding;
    this.#await("ztunnel did not take a message", outstanding);
    this.#host.send(outstanding.number, bytes, netns);
  }

  #await(what: string, outstanding?: Outstanding): void {
    this.#cancelDeadline();
    const about = outstanding === undefined ? "" : ` (${outstanding.kind}${outstanding.uid && ` ${outstanding.uid}`})`;
    this.#cancelDeadline = this.#host.schedule(
      () => this.end(`${what} within ${this.#host.deadlineMs / 1000} s${about}`, false, true),
      this.#host.deadlineMs,
    );
  }
}

function tooLong({ kind, uid }: Ask["request"], bytes: Uint8Array): string {
  return `the ZDS message (${kind} ${uid}) is ${bytes.length} bytes long, and ztunnel reads ${ZDS_MESSAGE_BYTES}: ` +
    "are the names of the pod and its service account that long?";
}
