/**
 * gRPC calls with messages that are bytes already, over the runtime's own HTTP/2: one call with one message and one answer, or a call that messages
 * follow each other on. Main thread only. Never throws: telemetry that is not taken is lost and counted.
 */
import { Buffer } from "node:buffer";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import type { CollectorAddress } from "./collectors.ts";

/** A collector that does not answer is tried again with the next batch. */
const TIMEOUT_MS = 10_000;
const FRAME_HEAD = 5;
/** What a collector may leave unread before it is given up. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

export interface GrpcHeaders {
  readonly [name: string]: string;
}

export class GrpcSender {
  readonly #sessions = new Map<string, ClientHttp2Session>();
  readonly #streams = new Map<string, ClientHttp2Stream>();

  /** Resolves with "" when it was taken, else with why not. */
  unary(address: CollectorAddress, path: string, message: Uint8Array, headers: GrpcHeaders): Promise<string> {
    return new Promise((resolve) => {
      const opened = this.#open(address, path, headers);
      if (typeof opened === "string") return resolve(opened);
      let status = "";
      let detail = "";
      let settled = false;
      const finish = (reason: string) => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        resolve(reason);
      };
      const timer = setTimeout(() => {
        opened.close();
        finish(`no answer within ${TIMEOUT_MS / 1000} s`);
      }, TIMEOUT_MS);
      const take = (fields: Record<string, unknown>) => {
        if (fields[":status"] !== undefined && Number(fields[":status"]) !== 200) status = `HTTP ${fields[":status"]}`;
        if (fields["grpc-status"] !== undefined) {
          status = String(fields["grpc-status"]);
          detail = String(fields["grpc-message"] ?? "");
        }
      };
      opened.on("response", take);
      opened.on("trailers", take);
      opened.on("error", (error: Error) => finish(error.message));
      opened.on("close", () => finish(status === "0" ? "" : `status ${status || "unknown"} ${detail}`.trim()));
      opened.resume();
      opened.end(frame(message));
    });
  }

  /**
   * Adds to a call that stays open. `first` is put before the first message of a call.
   * @returns "" when it was handed over, else why not
   */
  stream(address: CollectorAddress, path: string, first: Uint8Array, message: Uint8Array): string {
    const key = `${address.host} ${address.port} ${path}`;
    let stream = this.#streams.get(key);
    if (stream === undefined || stream.destroyed || stream.closed) {
      const opened = this.#open(address, path, {});
      if (typeof opened === "string") return opened;
      stream = opened;
      const forget = () => {
        if (this.#streams.get(key) === opened) this.#streams.delete(key);
      };
      opened.on("error", forget);
      opened.on("close", forget);
      opened.resume();
      opened.write(frame(first));
      this.#streams.set(key, opened);
    }
    if (stream.writableLength > MAX_UNREAD_BYTES) {
      stream.close();
      return "the collector does not read";
    }
    stream.write(frame(message));
    return "";
  }

  close(): void {
    for (const stream of this.#streams.values()) stream.end();
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
  }

  #open(address: CollectorAddress, path: string, headers: GrpcHeaders): ClientHttp2Stream | string {
    try {
      return this.#session(address).request({
        ":method": "POST",
        ":path": path,
        ":scheme": "http",
        ":authority": address.authority,
        "content-type": "application/grpc",
        "te": "trailers",
        ...headers,
      });
    } catch (error) {
      return (error as Error).message;
    }
  }

  #session({ host, port }: CollectorAddress): ClientHttp2Session {
    const key = `${host} ${port}`;
    const known = this.#sessions.get(key);
    if (known !== undefined && !known.closed && !known.destroyed) return known;
    const session = connect(`http://${host.includes(":") ? `[${host}]` : host}:${port}`);
    const forget = () => {
      if (this.#sessions.get(key) === session) this.#sessions.delete(key);
    };
    session.on("error", forget);
    session.on("close", forget);
    session.on("goaway", () => {
      forget();
      session.close();
    });
    session.unref?.();
    this.#sessions.set(key, session);
    return session;
  }
}

/** Length-prefixed, not compressed. */
function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.alloc(FRAME_HEAD + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, FRAME_HEAD);
  return bytes;
}
