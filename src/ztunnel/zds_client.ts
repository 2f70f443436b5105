/**
 * The conversation with the node agent (reference ztunnel, section 2): it announces pods with their network namespaces, first all it
 * knows, then each that comes or goes; every message gets exactly one answer, and nothing else is said after the hello.
 *
 * Losing the agent loses nothing: pods stay as they are, and those missing from the next snapshot go then. Sockets, pods, clock and timers
 * come in as arguments.
 */
import { decodeRequest, encodeHello, encodeResponse, type ZdsRequest } from "../protocol/zds.ts";
import type { Link, LinkHandler } from "./links.ts";
import { receivedNamespace } from "./pod_namespace.ts";
import { type PodInfo, ProxyStartError } from "./pods.ts";

export interface ZdsPods {
  announce(info: PodInfo): Promise<void>;
  remove(uid: string): Promise<void>;
  forgetPending(uid?: string): void;
  uids(): string[];
  readonly pending: number;
  pendingReasons(): string[];
}

export interface ZdsClientOptions {
  readonly path: string;
  readonly connect: (path: string, handler: LinkHandler) => Link;
  readonly pods: ZdsPods;
  readonly closeDescriptor: (fd: number) => void;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** [0, 1). */
  readonly random: () => number;
  /** Undefined: the snapshot is in force and every pod is served. Else what is waited for. */
  readonly ready: (pending: string | undefined) => void;
  /** The agent broke the protocol beyond repair: the process has to end. */
  readonly fatal: (reason: string) => void;
  readonly log: (level: "info" | "warn" | "debug", message: string, error?: string) => void;
}

const CONNECT_RETRY_MS = { first: 10, last: 15_000 } as const;
/** After the hello could not be sent, or the agent left before it said anything. */
const HELLO_RETRY_MS = { first: 5, last: 15_000 } as const;
const HELLO_JITTER = 0.2;
/** The agent waits 5 s for an answer, then gives the pod up: one that takes longer goes on after it. */
const ANSWER_MS = 3_500;
/** An agent that was connected to, and says nothing for this long before its snapshot is complete, hangs. */
const SILENCE_MS = 60_000;

/** The agent did what the protocol rules out. */
class ZdsProtocolError extends Error {}

/** One connection to the agent. */
interface Session {
  link: Link | undefined;
  connected: boolean;
  messages: number;
  cancelSilence: () => void;
  /** Messages are handled one after the other. */
  queue: Promise<void>;
}

export class ZdsClient {
  readonly #options: ZdsClientOptions;
  #session: Session | undefined;
  /** Uids told of since the last connect; undefined when the snapshot is complete. */
  #snapshot: Set<string> | undefined = new Set();
  #failures = 0;
  #cancelRetry: () => void = () => {};
  #state = "waiting for the mesh before it connects to the node agent";
  #started = false;
  #stopped = false;

  constructor(options: ZdsClientOptions) {
    this.#options = options;
  }

  /** Connects, and reconnects until `stop`. Call it when the first mesh is in force; again is nothing new. */
  start(): void {
    if (this.#started || this.#stopped) return;
    this.#started = true;
    this.#connect();
  }

  /** Reads no more. Pods stay as they are. */
  stop(): void {
    this.#stopped = true;
    this.#cancelRetry();
    this.#drop();
  }

  /** Pods became pending, or are not any more. */
  podsChanged(): void {
    if (this.#started) this.#tellReadiness();
  }

  #connect(): void {
    const options = this.#options;
    this.#snapshot = new Set();
    options.pods.forgetPending();
    const session: Session = {
      link: undefined,
      connected: false,
      messages: 0,
      cancelSilence: () => {},
      queue: Promise.resolve(),
    };
    this.#session = session;
    const current = () => this.#session === session;
    session.link = options.connect(options.path, {
      connected: () => {
        if (!current()) return;
        session.connected = true;
        session.link?.send(encodeHello());
        options.log("info", "connected to the node agent");
        this.#await(session);
        this.#say("connected to the node agent; its list of pods is not complete");
      },
      message: (bytes, fds, damage) => {
        if (!current()) return closeAll(fds, options.closeDescriptor);
        session.messages++;
        this.#await(session);
        session.queue = session.queue.then(() => this.#handle(session, bytes, fds, damage));
      },
      closed: (reason) => {
        if (current()) this.#lost(session, reason);
      },
    });
  }

  async #handle(
    session: Session,
    bytes: Uint8Array,
    fds: readonly number[],
    damage: string | undefined,
  ): Promise<void> {
    const left = new Set(fds);
    try {
      if (this.#session !== session) return;
      const request = read(bytes, fds, damage);
      if (request instanceof Error) return this.#refuse(session, `failure to read message : ${request.message}`);
      let error: string | undefined;
      try {
        await this.#within(this.#process(request, left), request);
      } catch (cause) {
        error = cause instanceof Error ? cause.message : String(cause);
        if (cause instanceof ZdsProtocolError) {
          this.#answer(session, error);
          this.#options.fatal(`the node agent broke the protocol: ${error}`);
          return;
        }
        if (!(cause instanceof ProxyStartError)) return this.#refuse(session, error);
      }
      this.#answer(session, error);
      this.#tellReadiness();
    } finally {
      closeAll([...left], this.#options.closeDescriptor);
    }
  }

  async #process(request: ZdsRequest, left: Set<number>): Promise<void> {
    const { pods } = this.#options;
    switch (request.kind) {
      case "add": {
        const { uid, workload } = request;
        if (workload === undefined) throw new ZdsProtocolError("workload_info is required but not present");
        const [fd] = left;
        left.delete(fd);
        const netns = receivedNamespace(fd);
        this.#snapshot?.add(uid);
        return await pods.announce({ uid, netns, ...workload });
      }
      case "keep":
        if (this.#snapshot === undefined) throw new ZdsProtocolError("a pod to keep came after the snapshot");
        this.#snapshot.add(request.uid);
        return;
      case "del":
        if (this.#snapshot === undefined) return await pods.remove(request.uid);
        // Before the snapshot is complete its end decides.
        this.#snapshot.delete(request.uid);
        return pods.forgetPending(request.uid);
      case "snapshot_sent": {
        const told = this.#snapshot;
        if (told === undefined) throw new ZdsProtocolError("the end of the snapshot came twice");
        this.#snapshot = undefined;
        this.#failures = 0;
        this.#session?.cancelSilence();
        this.#options.log("info", `the node agent's list of pods is complete: ${told.size} pods`);
        const gone = pods.uids().filter((uid) => !told.has(uid));
        await Promise.all(gone.map((uid) => pods.remove(uid)));
        return;
      }
    }
  }

  /** An answer comes in time, whatever takes long. */
  #within(work: Promise<void>, request: ZdsRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = this.#options.schedule(() => {
        if (request.kind === "add") {
          reject(new ProxyStartError("failure to start proxy : it takes long, and goes on"));
        } else {
          this.#options.log("warn", `${request.kind} takes long, and goes on`);
          resolve();
        }
      }, ANSWER_MS);
      work.then(resolve, reject).finally(cancel);
    });
  }

  #answer(session: Session, error: string | undefined): void {
    if (this.#session === session) session.link?.send(encodeResponse(error));
  }

  /** Says no and begins anew: what one side believes the other knows may be wrong. */
  #refuse(session: Session, error: string): void {
    this.#options.log("warn", "the node agent sent what cannot be handled: connecting anew", error);
    this.#answer(session, error);
    if (this.#session !== session) return;
    session.link?.close();
    this.#lost(session, error);
  }

  #lost(session: Session, reason: string): void {
    session.cancelSilence();
    this.#session = undefined;
    if (this.#stopped) return;
    const complete = this.#snapshot === undefined;
    const limits = session.connected ? HELLO_RETRY_MS : CONNECT_RETRY_MS;
    let delayMs = 0;
    if (!complete) {
      delayMs = Math.min(limits.last, limits.first * 2 ** Math.min(this.#failures++, 20));
      if (session.connected) delayMs *= 1 + HELLO_JITTER * (2 * this.#options.random() - 1);
    }
    const level = session.connected ? "warn" : "debug";
    this.#options.log(level, "no connection to the node agent; pods stay as they are", reason);
    this.#snapshot = new Set();
    this.#say(`no connection to the node agent: ${reason}`);
    this.#cancelRetry = this.#options.schedule(() => this.#connect(), delayMs);
  }

  #drop(): void {
    this.#session?.cancelSilence();
    this.#session?.link?.close();
    this.#session = undefined;
  }

  #await(session: Session): void {
    session.cancelSilence();
    if (this.#snapshot === undefined) return;
    session.cancelSilence = this.#options.schedule(() => {
      session.link?.close();
      this.#lost(session, `the node agent said nothing for ${SILENCE_MS / 1000} s before its list was complete`);
    }, SILENCE_MS);
  }

  #say(state: string): void {
    this.#state = state;
    this.#tellReadiness();
  }

  #tellReadiness(): void {
    const { pods, ready } = this.#options;
    if (this.#snapshot !== undefined) return ready(this.#state);
    if (pods.pending === 0) return ready(undefined);
    ready(`${pods.pending} pods cannot be served yet: ${pods.pendingReasons().slice(0, 3).join("; ")}`);
  }
}

/** The request, or why it is none. Descriptors go with an add, exactly one, and with nothing else. */
function read(bytes: Uint8Array, fds: readonly number[], damage: string | undefined): ZdsRequest | Error {
  if (damage !== undefined) return new Error(damage);
  let request: ZdsRequest;
  try {
    request = decodeRequest(bytes);
  } catch (error) {
    return error as Error;
  }
  if (request.kind === "add") {
    if (fds.length === 0) return new Error("No control message");
    if (fds.length > 1) return new Error(`Expected 1 FD, got ${fds.length}`);
  } else if (fds.length > 0) {
    return new Error(`Expected no FD, got ${fds.length}`);
  }
  return request;
}

function closeAll(fds: readonly number[], close: (fd: number) => void): void {
  for (const fd of fds) close(fd);
}
