/**
 * The ztunnel's end of the local control channel: connects to the `ambit local` that started it, says which node it
 * is, and hands on what it is told, one message after the other.
 *
 * Messages are handled strictly in order: the next one waits for the handler's promise, and each is acknowledged
 * (with the handler's error, if it threw). When the channel is lost the client keeps trying to come back; what
 * it was told stays valid meanwhile, and after a reconnect the complete state is sent again.
 */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { parseMesh, type ResourceError } from "../../mesh/parse.ts";
import type { MeshResources } from "../../mesh/types.ts";
import {
  CHANNEL_VERSION,
  type ChildMessage,
  decodeParentMessage,
  encodeMessage,
  type LocalPod,
  MAX_LINE_BYTES,
  type ParentMessage,
} from "./channel_messages.ts";
import { LineReader } from "./line_reader.ts";

export type { LocalPod } from "./channel_messages.ts";

/** A signed certificate: leaf first, then intermediates; roots apart. All PEM, one certificate an entry. */
export interface LocalCertificate {
  readonly chain: readonly string[];
  readonly roots: readonly string[];
}

export interface LocalControlOptions {
  /** The unix socket of this node, from `LOCAL_CONTROL`. */
  readonly path: string;
  readonly node: string;
  /** The complete mesh state, every time; the callee finds the difference. A throw becomes the parent's log line. */
  onMesh(resources: MeshResources): void | Promise<void>;
  /** A pod of this node. After a reconnect pods that are already known are added again: same uid, same netns. */
  onPodAdd(pod: LocalPod): void | Promise<void>;
  onPodDel(uid: string): void | Promise<void>;
  /** Every pod of the snapshot has been told; pods the callee knows and was not told about since the (re)connect are gone. */
  onPodsDone(): void | Promise<void>;
  /** The channel was lost (again); `reason` is for a log line. The client is already trying to come back. */
  onDisconnect(reason: string): void;
  /** First and longest wait before a reconnect, in milliseconds. */
  readonly backoffMs?: { readonly first: number; readonly max: number };
  /** How long a certificate request may take before it fails, in milliseconds. */
  readonly requestTimeoutMs?: number;
}

export interface LocalControl {
  /**
   * Has `csrPem` signed for `identity` (a SPIFFE id). Rejects when the parent refuses, does not answer in time, or the
   * channel is down or lost meanwhile: a retry is always safe.
   */
  requestCertificate(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** Ends the channel for good. Pending requests reject. */
  close(): void;
}

const BACKOFF_MS = { first: 50, max: 2_000 } as const;
const REQUEST_TIMEOUT_MS = 10_000;

interface PendingRequest {
  resolve(certificate: LocalCertificate): void;
  reject(error: Error): void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** Connects, and reconnects until `close`. Returns at once. */
export function connectLocalControl(options: LocalControlOptions): LocalControl {
  return new ChannelClient(options);
}

class ChannelClient implements LocalControl {
  readonly #options: LocalControlOptions;
  readonly #backoff: { readonly first: number; readonly max: number };
  readonly #requests = new Map<number, PendingRequest>();
  #nextRequest = 1;
  #socket: Socket | undefined;
  #connected = false;
  #closed = false;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LocalControlOptions) {
    this.#options = options;
    this.#backoff = options.backoffMs ?? BACKOFF_MS;
    this.#connect();
  }

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
      this.#send({ type: "csr", id, identity, csr: csrPem });
    });
  }

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
      this.#send({ type: "hello", node: this.#options.node, version: CHANNEL_VERSION, pid: process.pid });
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

  async #handle(socket: Socket, message: Exclude<ParentMessage, { type: "certificate" }>): Promise<void> {
    // What was queued on a lost connection is told again on the next one, so it is dropped here.
    if (socket !== this.#socket) return;
    let failure: string | undefined;
    try {
      switch (message.type) {
        case "mesh": {
          const parsed = parseMesh(message.resources);
          if (!parsed.ok) throw new Error(`the mesh cannot be read: ${describe(parsed.errors[0]!)}`);
          await this.#options.onMesh(parsed.resources);
          break;
        }
        case "pod_add": {
          const { uid, netns, name, namespace, serviceAccount } = message;
          await this.#options.onPodAdd({ uid, netns, name, namespace, serviceAccount });
          break;
        }
        case "pod_del":
          await this.#options.onPodDel(message.uid);
          break;
        case "pods_done":
          await this.#options.onPodsDone();
          break;
      }
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    if (socket !== this.#socket) return;
    this.#send(
      failure === undefined ? { type: "ack", id: message.id } : { type: "ack", id: message.id, error: failure },
    );
  }

  #answer(message: Extract<ParentMessage, { type: "certificate" }>): void {
    const request = this.#requests.get(message.id);
    if (request === undefined) return; // answered after its timeout
    this.#requests.delete(message.id);
    clearTimeout(request.timer);
    if ("error" in message) request.reject(new Error(message.error));
    else request.resolve({ chain: message.chain, roots: message.roots });
  }

  #send(message: ChildMessage): void {
    this.#socket?.write(encodeMessage(message));
  }

  #failRequests(reason: string): void {
    for (const request of this.#requests.values()) {
      clearTimeout(request.timer);
      request.reject(new Error(reason));
    }
    this.#requests.clear();
  }
}

function describe({ path, message }: ResourceError): string {
  return `${path.join(".")}: ${message}`;
}
