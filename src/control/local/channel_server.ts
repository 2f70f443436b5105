/**
 * The parent's end of the local control channel: one unix socket per node, on which that node's ztunnel says hello and is
 * then told the mesh, its pods, and every later change.
 *
 * The server keeps what the node should know. A ztunnel that comes (back) is told all of it: mesh, pods, end of the
 * snapshot. One ztunnel at a time: a new hello takes the place of the old connection.
 */
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import {
  CHANNEL_VERSION,
  ChannelProtocolError,
  type ChildMessage,
  decodeChildMessage,
  encodeMessage,
  type LocalPod,
  type MeshSnapshot,
  type ParentMessage,
} from "./channel_messages.ts";
import type { LocalCertificate } from "./channel_client.ts";
import { LineReader } from "./line_reader.ts";

/** What became of a message. Only "refused" is a fault of its content. */
export type Delivery =
  | { readonly kind: "acknowledged" }
  | { readonly kind: "refused"; readonly error: string }
  /** No answer in time, or the channel was lost: the node is told again when it comes back. */
  | { readonly kind: "unanswered" }
  /** No ztunnel is connected: the node is told when it comes. */
  | { readonly kind: "offline" };

export interface NodeChannelOptions {
  /** Where to listen. The directory must not be open to others: who connects is the node. */
  readonly path: string;
  readonly node: string;
  /** Signs for this node, or rejects with a text for the asker. */
  sign(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** For log lines: the ztunnel came, went, or did not accept what it was told. */
  onEvent(event: ChannelEvent): void;
  readonly ackTimeoutMs?: number;
}

export type ChannelEvent =
  | { readonly kind: "connected"; readonly pid: number }
  | { readonly kind: "lost"; readonly reason: string }
  | { readonly kind: "refused"; readonly message: string; readonly error: string }
  | { readonly kind: "unanswered"; readonly message: string };

export interface NodeChannel {
  /** Resolves once a ztunnel has acknowledged its first whole snapshot; rejects when the channel is closed before. */
  readonly ready: Promise<void>;
  setMesh(snapshot: MeshSnapshot): Promise<Delivery>;
  addPod(pod: LocalPod): Promise<Delivery>;
  removePod(uid: string): Promise<Delivery>;
  close(): Promise<void>;
}

/** A push of the whole mesh to every worker takes well under this; in milliseconds. */
const ACK_TIMEOUT_MS = 10_000;
/** From connect to hello, in milliseconds. */
const HELLO_TIMEOUT_MS = 5_000;
/** A child's longest message is a CSR of a few hundred bytes. */
const MAX_CHILD_LINE_BYTES = 256 * 1024;
/** Requests of one ztunnel that are being signed at once; it works through its own queue eight at a time. */
const MAX_SIGNING = 64;

type Told = Exclude<ParentMessage, { type: "certificate" }>;

/** Listens; rejects when the socket cannot be made. */
export async function serveNode(options: NodeChannelOptions): Promise<NodeChannel> {
  const channel = new ChannelServer(options);
  await channel.listen();
  return channel;
}

class ChannelServer implements NodeChannel {
  readonly ready: Promise<void>;
  readonly #options: NodeChannelOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #pods = new Map<string, LocalPod>();
  #mesh: MeshSnapshot = { workloads: [], services: [], policies: [] };
  #session: Session | undefined;
  #resolveReady = () => {};
  #rejectReady = (_: Error) => {};

  constructor(options: NodeChannelOptions) {
    this.#options = options;
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.ready.catch(() => {}); // who does not wait for it does not mind
    this.#server = createServer((socket) => this.#accept(socket));
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#options.path, () => resolve());
    });
  }

  setMesh(snapshot: MeshSnapshot): Promise<Delivery> {
    this.#mesh = snapshot;
    return this.#tell((id) => ({ type: "mesh", id, resources: snapshot }));
  }

  addPod(pod: LocalPod): Promise<Delivery> {
    this.#pods.set(pod.uid, pod);
    return this.#tell((id) => ({ type: "pod_add", id, ...pod }));
  }

  removePod(uid: string): Promise<Delivery> {
    this.#pods.delete(uid);
    return this.#tell((id) => ({ type: "pod_del", id, uid }));
  }

  async close(): Promise<void> {
    this.#rejectReady(new Error(`the control channel of ${this.#options.node} is closed`));
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #tell(message: (id: number) => Told): Promise<Delivery> {
    const session = this.#session;
    if (session === undefined) return { kind: "offline" };
    const { delivery, type } = session.tell(message);
    const outcome = await delivery;
    if (outcome.kind === "refused") this.#options.onEvent({ kind: "refused", message: type, error: outcome.error });
    if (outcome.kind === "unanswered") this.#options.onEvent({ kind: "unanswered", message: type });
    return outcome;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    let reason = "the ztunnel closed it";
    let session: Session | undefined;
    const reader = new LineReader(MAX_CHILD_LINE_BYTES);
    const helloTimer = setTimeout(() => fail(`no hello within ${HELLO_TIMEOUT_MS} ms`), HELLO_TIMEOUT_MS);
    const fail = (text: string) => {
      reason = text;
      socket.destroy();
    };

    socket.on("data", (chunk: Uint8Array) => {
      if (socket.destroyed) return;
      try {
        reader.push(chunk, (line) => {
          const message = decodeChildMessage(line);
          if (session !== undefined) return session.receive(message);
          this.#checkHello(message);
          clearTimeout(helloTimer);
          session = new Session(socket, this.#options);
          this.#begin(session, message.pid);
        });
      } catch (error) {
        fail(`protocol error: ${(error as Error).message}`);
      }
    });
    socket.on("error", (error) => {
      reason = error.message;
    });
    socket.on("close", () => {
      clearTimeout(helloTimer);
      this.#sockets.delete(socket);
      session?.end();
      if (session !== undefined && session === this.#session) this.#session = undefined;
      this.#options.onEvent({ kind: "lost", reason });
    });
  }

  #checkHello(message: ChildMessage): asserts message is Extract<ChildMessage, { type: "hello" }> {
    if (message.type !== "hello") throw new ChannelProtocolError(`"${message.type}" before hello`);
    if (message.version !== CHANNEL_VERSION) {
      throw new ChannelProtocolError(`version ${message.version}, but this is version ${CHANNEL_VERSION}`);
    }
    if (message.node !== this.#options.node) {
      throw new ChannelProtocolError(`node "${message.node}" on the channel of "${this.#options.node}"`);
    }
  }

  #begin(session: Session, pid: number): void {
    this.#session?.drop();
    this.#session = session;
    this.#options.onEvent({ kind: "connected", pid });
    void this.#tell((id) => ({ type: "mesh", id, resources: this.#mesh }));
    for (const pod of this.#pods.values()) void this.#tell((id) => ({ type: "pod_add", id, ...pod }));
    void this.#tell((id) => ({ type: "pods_done", id })).then((delivery) => {
      if (delivery.kind === "acknowledged") this.#resolveReady();
    });
  }
}

/** One connected ztunnel: what it was told and has not answered yet. */
class Session {
  readonly #socket: Socket;
  readonly #options: NodeChannelOptions;
  readonly #unanswered = new Map<number, (delivery: Delivery) => void>();
  #nextId = 1;
  #signing = 0;

  constructor(socket: Socket, options: NodeChannelOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  tell(message: (id: number) => Told): { readonly delivery: Promise<Delivery>; readonly type: Told["type"] } {
    const id = this.#nextId++;
    const told = message(id);
    const delivery = new Promise<Delivery>((resolve) => {
      const timer = setTimeout(
        () => this.#settle(id, { kind: "unanswered" }),
        this.#options.ackTimeoutMs ?? ACK_TIMEOUT_MS,
      );
      this.#unanswered.set(id, (delivery) => {
        clearTimeout(timer);
        resolve(delivery);
      });
    });
    this.#socket.write(encodeMessage(told));
    return { delivery, type: told.type };
  }

  receive(message: ChildMessage): void {
    switch (message.type) {
      case "hello":
        throw new ChannelProtocolError("a second hello");
      case "ack":
        return this.#settle(
          message.id,
          message.error === undefined ? { kind: "acknowledged" } : { kind: "refused", error: message.error },
        );
      case "csr":
        return void this.#sign(message.id, message.identity, message.csr);
    }
  }

  drop(): void {
    this.#socket.destroy();
    this.end();
  }

  end(): void {
    for (const id of [...this.#unanswered.keys()]) this.#settle(id, { kind: "unanswered" });
  }

  #settle(id: number, delivery: Delivery): void {
    this.#unanswered.get(id)?.(delivery);
    this.#unanswered.delete(id);
  }

  async #sign(id: number, identity: string, csr: string): Promise<void> {
    let answer: ParentMessage;
    if (this.#signing >= MAX_SIGNING) {
      answer = { type: "certificate", id, error: `more than ${MAX_SIGNING} requests at once; ask again` };
    } else {
      this.#signing++;
      try {
        answer = { type: "certificate", id, ...await this.#options.sign(identity, csr) };
      } catch (error) {
        answer = { type: "certificate", id, error: error instanceof Error ? error.message : String(error) };
      } finally {
        this.#signing--;
      }
    }
    if (!this.#socket.destroyed) this.#socket.write(encodeMessage(answer));
  }
}
