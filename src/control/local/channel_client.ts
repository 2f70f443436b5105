/**
 * A child's end of the local control channel: connects to the `ambit local` that started it, says who it is, and hands on
 * what it is told, one message after the other. What the messages mean is for node_client.ts and waypoint_client.ts.
 *
 * Messages are handled strictly in order: the next one waits for the handler's promise, and each is acknowledged
 * (with the handler's error, if it threw). When the channel is lost the client keeps trying to come back; what
 * it was told stays valid meanwhile, and after a reconnect the complete state is sent again.
 */
import { connect } from "node:net";
import type { Socket } from "node:net";
import {
  type CertificateMessage,
  CHANNEL_VERSION,
  type ChannelPeer,
  type ChildMessage,
  decodeParentMessage,
  encodeMessage,
  MAX_LINE_BYTES,
  type ToldMessage,
} from "./channel_messages.ts";
import { LineReader } from "./line_reader.ts";

/** A signed certificate: leaf first, then intermediates; roots apart. All PEM, one certificate an entry. */
export interface LocalCertificate {
  readonly chain: readonly string[];
  readonly roots: readonly string[];
}

export interface ChannelClientOptions {
  /** The unix socket, from `LOCAL_CONTROL`. */
  readonly path: string;
  readonly self: ChannelPeer;
  /** A throw becomes the parent's log line. */
  handle(message: ToldMessage): void | Promise<void>;
  /** Hello was said, for the first time or again. */
  onConnect?(): void;
  /** The channel was lost (again); `reason` is for a log line. The client is already trying to come back. */
  onDisconnect(reason: string): void;
  /** First and longest wait before a reconnect, in milliseconds. */
  readonly backoffMs?: { readonly first: number; readonly max: number } | undefined;
  /** How long a certificate request may take before it fails, in milliseconds. */
  readonly requestTimeoutMs?: number | undefined;
}

const BACKOFF_MS = { first: 50, max: 2_000 } as const;
const REQUEST_TIMEOUT_MS = 10_000;

interface PendingRequest {
  resolve(certificate: LocalCertificate): void;
  reject(error: Error): void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** Connects, and reconnects until `close`. */
export class ChannelClient {
  readonly #options: ChannelClientOptions;
  readonly #backoff: { readonly first: number; readonly max: number };
  readonly #requests = new Map<number, PendingRequest>();
  #nextRequest = 1;
  #socket: Socket | undefined;
  #connected = false;
  #closed = false;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ChannelClientOptions) {
    this.#options = options;
    this.#backoff = options.backoffMs ?? BACKOFF_MS;
    this.#connect();
  }

  /**
   * Has `csrPem` signed for `identity` (a SPIFFE id). Rejects when the parent refuses, does not answer in time, or the
   * channel is down or lost meanwhile: a retry is always safe.
   */
  requestCertificate(identity: string, csrPem: string): Promise<LocalCertificate> {
    if (!this.#connected) return Promise.reject(new Error("the local control plane is not connected"));
    const id = this.#nextRequest++;
    const timeoutMs = this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#requests.delete(id);
        reject(new Error(`the local control plane did not sign ${identity} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#requests.set(id, { resolve, reject, timer });
      this.send({ type: "csr", id, identity, csr: csrPem });
    });
  }

  /** Without a connection nothing is sent. */
  send(message: ChildMessage): void {
    if (this.#connected) this.#socket?.write(encodeMessage(message));
  }

  /** Ends the channel for good. Pending requests reject. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#connected = false;
    this.#failRequests("the local control channel is closed");
  }

  #connect(): void {
    const socket = connect(this.#options.path);
    this.#socket = socket;
    const reader = new LineReader(MAX_LINE_BYTES);
    // One message is handled at a time, in order; certificate answers overtake, as handlers may wait for them.
    let queue: Promise<void> = Promise.resolve();
    let reason = "closed by the parent";

    socket.on("connect", () => {
      if (socket !== this.#socket) return;
      this.#connected = true;
      this.send({ type: "hello", ...this.#options.self, version: CHANNEL_VERSION, pid: process.pid });
      this.#options.onConnect?.();
    });
    socket.on("data", (chunk: Uint8Array) => {
      try {
        reader.push(chunk, (line) => {
          const message = decodeParentMessage(line);
          this.#failures = 0;
          if (message.type === "certificate") this.#answer(message);
          else queue = queue.then(() => this.#handle(socket, message));
        });
      } catch (error) {
        reason = `protocol error: ${(error as Error).message}`;
        socket.destroy();
      }
    });
    socket.on("error", (error) => {
      reason = error.message;
    });
    socket.on("close", () => {
      if (socket !== this.#socket || this.#closed) return;
      this.#socket = undefined;
      this.#connected = false;
      this.#failRequests(`the local control channel was lost: ${reason}`);
      const delay = Math.min(this.#backoff.max, this.#backoff.first * 2 ** Math.min(this.#failures++, 16));
      this.#retry = setTimeout(() => this.#connect(), delay);
      this.#options.onDisconnect(reason);
    });
  }

  async #handle(socket: Socket, message: ToldMessage): Promise<void> {
    // What was queued on a lost connection is told again on the next one, so it is dropped here.
    if (socket !== this.#socket) return;
    let failure: string | undefined;
    try {
      await this.#options.handle(message);
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    if (socket !== this.#socket) return;
    this.send(
      failure === undefined ? { type: "ack", id: message.id } : { type: "ack", id: message.id, error: failure },
    );
  }

  #answer(message: CertificateMessage): void {
    const request = this.#requests.get(message.id);
    if (request === undefined) return; // answered after its timeout
    this.#requests.delete(message.id);
    clearTimeout(request.timer);
    if ("error" in message) request.reject(new Error(message.error));
    else request.resolve({ chain: message.chain, roots: message.roots });
  }

  #failRequests(reason: string): void {
    for (const request of this.#requests.values()) {
      clearTimeout(request.timer);
      request.reject(new Error(reason));
    }
    this.#requests.clear();
  }
}
