/**
 * The parent's end of the local control channel: one unix socket for each child, on which it says hello and is then told what
 * it has to know. What that is, and in which order, is for node_channel.ts and waypoint_channel.ts.
 *
 * One child at a time: a new hello takes the place of the old connection.
 */
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import {
  CHANNEL_VERSION,
  type ChannelPeer,
  ChannelProtocolError,
  type ChildMessage,
  decodeChildMessage,
  encodeMessage,
  type ParentMessage,
  type ToldMessage,
} from "./channel_messages.ts";
import type { LocalCertificate } from "./channel_client.ts";
import { LineReader } from "./line_reader.ts";

/** What became of a message. Only "refused" is a fault of its content. */
export type Delivery =
  | { readonly kind: "acknowledged" }
  | { readonly kind: "refused"; readonly error: string }
  /** No answer in time, or the channel was lost: the child is told again when it comes back. */
  | { readonly kind: "unanswered" }
  /** No child is connected: it is told when it comes. */
  | { readonly kind: "offline" };

/** For log lines: the child came, went, or did not accept what it was told. */
export type ChannelEvent =
  | { readonly kind: "connected"; readonly pid: number }
  | { readonly kind: "lost"; readonly reason: string }
  | { readonly kind: "refused"; readonly message: string; readonly error: string }
  | { readonly kind: "unanswered"; readonly message: string };

/** What the channels of ztunnels and of waypoints have in common. */
export interface ChannelOptions {
  /** Where to listen. The directory must not be open to others: who connects is the child. */
  readonly path: string;
  /** Signs for this child, or rejects with a text for the asker. */
  sign(identity: string, csrPem: string): Promise<LocalCertificate>;
  onEvent(event: ChannelEvent): void;
  readonly ackTimeoutMs?: number | undefined;
}

export interface ChannelServerOptions extends ChannelOptions {
  readonly peer: ChannelPeer;
  /** The child said hello: what it is told now comes before everything else. `pid` is as the child sees itself. */
  onHello(pid: number): void;
  /** The child said that it serves. */
  onReady?(): void;
}

type Unnumbered<T> = T extends unknown ? Omit<T, "id"> : never;

/** A push of the whole mesh to every worker takes well under this; in milliseconds. */
const ACK_TIMEOUT_MS = 10_000;
/** From connect to hello, in milliseconds. */
const HELLO_TIMEOUT_MS = 5_000;
/** A child's longest message is a CSR of a few hundred bytes, or a refusal of a few thousand. */
const MAX_CHILD_LINE_BYTES = 256 * 1024;
/** Requests of one child that are being signed at once; a ztunnel works through its own queue eight at a time. */
const MAX_SIGNING = 64;

export class ChannelServer {
  readonly #options: ChannelServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #session: Session | undefined;

  constructor(options: ChannelServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Rejects when the socket cannot be made. */
  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#options.path, () => resolve());
    });
  }

  async tell(message: Unnumbered<ToldMessage>): Promise<Delivery> {
    const session = this.#session;
    if (session === undefined) return { kind: "offline" };
    const outcome = await session.tell(message);
    const { type } = message;
    if (outcome.kind === "refused") this.#options.onEvent({ kind: "refused", message: type, error: outcome.error });
    if (outcome.kind === "unanswered") this.#options.onEvent({ kind: "unanswered", message: type });
    return outcome;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    let reason = `the ${this.#options.peer.role} closed it`;
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
          this.#session?.drop();
          this.#session = session;
          this.#options.onEvent({ kind: "connected", pid: message.pid });
          this.#options.onHello(message.pid);
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
    const { role, name } = this.#options.peer;
    if (message.type !== "hello") throw new ChannelProtocolError(`"${message.type}" before hello`);
    if (message.version !== CHANNEL_VERSION) {
      throw new ChannelProtocolError(`version ${message.version}, but this is version ${CHANNEL_VERSION}`);
    }
    if (message.role !== role || message.name !== name) {
      throw new ChannelProtocolError(`${message.role} "${message.name}" on the channel of ${role} "${name}"`);
    }
  }
}

/** One connected child: what it was told and has not answered yet. */
class Session {
  readonly #socket: Socket;
  readonly #options: ChannelServerOptions;
  readonly #unanswered = new Map<number, (delivery: Delivery) => void>();
  #nextId = 1;
  #signing = 0;

  constructor(socket: Socket, options: ChannelServerOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  tell(message: Unnumbered<ToldMessage>): Promise<Delivery> {
    const id = this.#nextId++;
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
    this.#socket.write(encodeMessage({ ...message, id }));
    return delivery;
  }

  receive(message: ChildMessage): void {
    switch (message.type) {
      case "hello":
        throw new ChannelProtocolError("a second hello");
      case "ready":
        return this.#options.onReady?.();
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
