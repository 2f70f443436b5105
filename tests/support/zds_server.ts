/**
 * A node agent for tests, as istio-cni's is on the wire (reference ztunnel, section 2): it listens on a SOCK_SEQPACKET socket, takes
 * a hello, sends the pods it knows as a snapshot, then news; one message, then its answer, within 5 s each. An add goes to the newest
 * connection only, a delete to all. What a ztunnel says unasked is a violation, and ends its connection.
 *
 *   const agent = ZdsServer.start(join(directory, "ztunnel.sock"));
 *   await agent.addPod({ uid, name, namespace, serviceAccount, netns: "/proc/4711/ns/net" }); // resolves when a ztunnel has acked it
 *   await agent.delPod(uid);
 *   agent.stop(); // as when the agent is killed; start another one on the same path
 */
import { rmSync } from "node:fs";
import { describeErrno, EAGAIN } from "../../src/platform/errno.ts";
import { openNamespace } from "../../src/platform/netns.ts";
import { listenSeqpacket, MessageReceiver, MessageSender } from "../../src/platform/seqpacket.ts";
import { acceptSocket, closeDescriptor } from "../../src/platform/socket.ts";
import {
  decodeHello,
  decodeResponse,
  encodeRequest,
  ZDS_MESSAGE_BYTES,
  type ZdsRequest,
} from "../../src/protocol/zds.ts";

export interface ZdsPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** A file of its network namespace; undefined: the agent cannot find it, so a snapshot only says "keep". */
  readonly netns: string | undefined;
}

export interface ZdsServerOptions {
  /** Pods known from the start. */
  readonly pods?: readonly ZdsPod[];
  /** istio-cni accepts no more than 5 in a second, which is the default. */
  readonly acceptsPerSecond?: number;
  /** How long an answer may take. */
  readonly deadlineMs?: number;
  readonly log?: (line: string) => void;
}

/** An answer that was awaited, for tests of how long it took and what it said. */
export interface ZdsAnswer {
  readonly request: ZdsRequest;
  readonly tookMs: number;
  readonly error: string | undefined;
}

const POLL_MS = 1;
const ACCEPTS_PER_SECOND = 5;
const DEADLINE_MS = 5_000;
const receiver = new MessageReceiver(ZDS_MESSAGE_BYTES);
const sender = new MessageSender(ZDS_MESSAGE_BYTES);

/** One ztunnel. Requests go out one after the other. */
class Connection {
  /** It said hello. */
  greeted = false;
  /** The snapshot is through. */
  ready = false;
  open = true;
  #queue: Promise<unknown> = Promise.resolve();
  #awaiting: ((answer: Uint8Array | Error) => void) | undefined;

  constructor(readonly server: ZdsServer, readonly fd: number, readonly number: number) {}

  /** Sends a request when those before it are answered. Rejects with the answer's error, or because there was none in time. */
  ask(request: ZdsRequest, fds: readonly number[] = []): Promise<void> {
    const asked = this.#queue.then(() => this.#ask(request, fds));
    this.#queue = asked.catch(() => {});
    return asked;
  }

  /** Any bytes, as no agent would send them. */
  askRaw(bytes: Uint8Array, fds: readonly number[] = []): Promise<string | undefined> {
    const asked = this.#queue.then(async () => decodeResponse(await this.#exchange(bytes, fds)));
    this.#queue = asked.catch(() => {});
    return asked;
  }

  /** The next message of this ztunnel, asked or not. */
  next(timeoutMs: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#awaiting = undefined;
        const error = new Error(`ztunnel ${this.number} did not answer within ${timeoutMs} ms`);
        this.close(error.message);
        reject(error);
      }, timeoutMs);
      this.#awaiting = (answer) => {
        clearTimeout(timer);
        this.#awaiting = undefined;
        if (answer instanceof Error) reject(answer);
        else resolve(answer);
      };
    });
  }

  /** Takes what has come. */
  poll(): void {
    while (this.open) {
      const length = receiver.receive(this.fd);
      receiver.closeDescriptors();
      if (length === -EAGAIN) return;
      if (length <= 0) return this.close(length === 0 ? "it closed the connection" : describeErrno(-length));
      if (receiver.truncated || receiver.controlTruncated) {
        return this.#violation("a message was longer than the buffer");
      }
      if (this.#awaiting === undefined) return this.#violation("it spoke unasked");
      this.#awaiting(receiver.copy(length));
    }
  }

  close(reason: string): void {
    if (!this.open) return;
    this.open = this.ready = false;
    closeDescriptor(this.fd);
    this.server.gone(this, reason);
    this.#awaiting?.(new Error(`the connection of ztunnel ${this.number} ended: ${reason}`));
  }

  async #ask(request: ZdsRequest, fds: readonly number[]): Promise<void> {
    const startedMs = performance.now();
    const bytes = await this.#exchange(encodeRequest(request), fds);
    const error = decodeResponse(bytes);
    this.server.answers.push({ request, tookMs: performance.now() - startedMs, error });
    if (error !== undefined) throw new Error(error);
  }

  #exchange(bytes: Uint8Array, fds: readonly number[]): Promise<Uint8Array> {
    if (!this.open) return Promise.reject(new Error(`the connection of ztunnel ${this.number} is closed`));
    const sent = sender.send(this.fd, bytes, fds);
    if (sent < 0) {
      this.close(`cannot send: ${describeErrno(-sent)}`);
      return Promise.reject(new Error(`cannot send to ztunnel ${this.number}: ${describeErrno(-sent)}`));
    }
    return this.next(this.server.deadlineMs);
  }

  #violation(what: string): void {
    this.server.violations.push(`ztunnel ${this.number}: ${what}`);
    this.close(what);
  }
}

export type { Connection as ZdsConnection };

export class ZdsServer {
  readonly path: string;
  /** Oldest first. */
  readonly connections: Connection[] = [];
  /** What no ztunnel may do. */
  readonly violations: string[] = [];
  /** Every answer so far. */
  readonly answers: ZdsAnswer[] = [];
  readonly deadlineMs: number;
  readonly #listener: number;
  readonly #pods = new Map<string, ZdsPod>();
  readonly #log: (line: string) => void;
  readonly #acceptGapMs: number;
  #accepted = 0;
  #nextAcceptMs = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  #waiting: (() => void)[] = [];

  private constructor(path: string, listener: number, options: ZdsServerOptions) {
    this.path = path;
    this.#listener = listener;
    this.deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.#acceptGapMs = 1_000 / (options.acceptsPerSecond ?? ACCEPTS_PER_SECOND);
    this.#log = options.log ?? (() => {});
    for (const pod of options.pods ?? []) this.#pods.set(pod.uid, pod);
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
  }

  /** Listens at `path`; what an earlier agent left there is removed. */
  static start(path: string, options: ZdsServerOptions = {}): ZdsServer {
    rmSync(path, { force: true });
    const listener = listenSeqpacket(path, 16);
    if (listener < 0) throw new Error(`cannot listen at ${path}: ${describeErrno(-listener)}`);
    return new ZdsServer(path, listener, options);
  }

  /** The newest ztunnel that has its snapshot. */
  get newest(): Connection | undefined {
    return this.connections.findLast(({ ready }) => ready);
  }

  get pods(): readonly ZdsPod[] {
    return [...this.#pods.values()];
  }

  /** Resolves when that many ztunnels have their snapshots; counts those that live. */
  async connected(count = 1, timeoutMs = 20_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (this.connections.filter(({ ready }) => ready).length < count) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`${count} ztunnels did not get their snapshot within ${timeoutMs} ms`);
      await this.#change(Math.min(left, 100));
    }
  }

  /** A new pod: to the newest ztunnel; resolves with its ack. Rejects with its words, or when there is none. The pod stays known. */
  async addPod(pod: ZdsPod): Promise<void> {
    this.#pods.set(pod.uid, pod);
    const connection = this.newest;
    if (connection === undefined) throw new Error("no ztunnel connected");
    await this.#sendPod(connection, pod);
  }

  /** A pod is gone: to every ztunnel; resolves when all have acked. */
  async delPod(uid: string): Promise<void> {
    this.#pods.delete(uid);
    await Promise.all(this.connections.filter(({ greeted }) => greeted).map((c) => c.ask({ kind: "del", uid })));
  }

  /** Changes what the next snapshot holds, and tells nobody. */
  forgetPod(uid: string): void {
    this.#pods.delete(uid);
  }

  rememberPod(pod: ZdsPod): void {
    this.#pods.set(pod.uid, pod);
  }

  /** Ends at once, as a killed agent does: every connection, and the socket's file stays. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const connection of [...this.connections]) connection.close("the agent ended");
    closeDescriptor(this.#listener);
  }

  gone(connection: Connection, reason: string): void {
    const at = this.connections.indexOf(connection);
    if (at !== -1) this.connections.splice(at, 1);
    this.#log(`ztunnel ${connection.number}: ${reason}`);
    this.#changed();
  }

  #poll(): void {
    for (const connection of [...this.connections]) connection.poll();
    if (this.#timer === undefined || performance.now() < this.#nextAcceptMs) return;
    const fd = acceptSocket(this.#listener);
    if (fd < 0) return;
    this.#nextAcceptMs = performance.now() + this.#acceptGapMs;
    const connection = new Connection(this, fd, ++this.#accepted);
    this.connections.push(connection);
    this.#log(`ztunnel ${connection.number}: connected`);
    this.#greet(connection).catch((error: Error) => connection.close(error.message));
  }

  /** The hello, then the snapshot. */
  async #greet(connection: Connection): Promise<void> {
    const hello = await connection.next(this.deadlineMs);
    if (hello.length !== 2 || decodeHello(hello) !== 1) {
      this.violations.push(`ztunnel ${connection.number}: its hello is ${[...hello]}`);
      throw new Error("not a hello of version 1");
    }
    connection.greeted = true;
    // Pods that come meanwhile are in the snapshot too, or are added behind it.
    const told = new Set<string>();
    for (let again = true; again;) {
      again = false;
      for (const pod of this.#pods.values()) {
        if (told.has(pod.uid)) continue;
        told.add(pod.uid);
        again = true;
        // A pod that the ztunnel cannot serve yet does not end the snapshot.
        await this.#sendPod(connection, pod).catch((error) => this.#log(`${pod.uid}: ${error.message}`));
        if (!connection.open) return;
      }
    }
    await connection.ask({ kind: "snapshot_sent" });
    connection.ready = true;
    this.#log(`ztunnel ${connection.number}: has its snapshot of ${told.size} pods`);
    this.#changed();
  }

  async #sendPod(connection: Connection, pod: ZdsPod): Promise<void> {
    const { uid, name, namespace, serviceAccount, netns } = pod;
    if (netns === undefined) return connection.ask({ kind: "keep", uid });
    const fd = openNamespace(netns);
    if (fd < 0) throw new Error(`cannot open the network namespace ${netns}: ${describeErrno(-fd)}`);
    try {
      await connection.ask({ kind: "add", uid, workload: { name, namespace, serviceAccount } }, [fd]);
    } finally {
      closeDescriptor(fd);
    }
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #changed(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
