/**
 * A client of the Kubernetes API: JSON over HTTPS with a bearer token. The CNI plugin uses it too, so it loads little.
 *
 * No call waits for longer than its timeout, retries included. A token that is not accepted is read again once; an API server that
 * asks for patience (429, and 503 to a read) gets it as far as the timeout allows.
 */
import type { Fields } from "../../protocol/http1/types.ts";
import { ConnectionPool } from "./connection_pool.ts";
import { type Answer, type Exchange, exchange, type Sink, stream } from "./http_exchange.ts";
import { type AskedCall, KubeError, protocolError, refusalError } from "./kube_error.ts";
import { type Schedule, systemSchedule } from "./schedule.ts";
import { checkToken, describeToken, type TokenSource } from "./token.ts";

export { KubeError } from "./kube_error.ts";

export interface KubeClientOptions {
  /** `https://10.0.0.1:443`; IPv6 in brackets; a path before the API's own is kept. No token is sent to `http:`. */
  readonly server: string;
  /** PEM. A function is asked for each connection. Undefined: the system's roots. */
  readonly ca: string | undefined | (() => string | undefined);
  readonly skipTlsVerify?: boolean;
  readonly token: TokenSource;
  /** Of one whole call that is no watch, retries included. Default 10,000. */
  readonly timeoutMs?: number;
  readonly userAgent?: string;
  /** For tests. */
  readonly schedule?: Schedule;
}

export interface ReadOptions {
  readonly signal?: AbortSignal;
  /** Default: the client's. */
  readonly timeoutMs?: number;
  /** Default `application/json`. */
  readonly accept?: string;
  /** Default 8 MiB; etcd holds no object above 1.5. */
  readonly maxBytes?: number;
}

export interface StreamOptions {
  readonly signal: AbortSignal;
  /** Default `application/json`. */
  readonly accept?: string;
  /** Nothing for so long: the peer is dead. Asked anew after each piece. */
  readonly silenceMs: () => number;
}

/** Paths begin with `/api` or `/apis` and may have a query. All reject with a KubeError, or with the signal's reason. */
export interface KubeClient {
  /** `https://10.0.0.1:443`, for texts. */
  readonly server: string;
  get<T>(path: string, signal?: AbortSignal): Promise<T>;
  read<T>(path: string, options: ReadOptions): Promise<T>;
  create<T>(path: string, body: unknown): Promise<T>;
  mergePatch<T>(path: string, body: unknown): Promise<T>;
  /** The body of an answer that goes on, in pieces. Resolves when the server ended it as it should; what `sink` throws ends it. */
  stream(path: string, options: StreamOptions, sink: Sink): Promise<void>;
  /** Lets go of idle connections. Calls that run are for their callers to abort. */
  close(): void;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const STREAM_OPEN_TIMEOUT_MS = 30_000;
const MAX_BODY_BYTES = 8 * 1024 * 1024;
/** Of one client, watches not counted. More calls wait, within their timeout. */
const MAX_CONNECTIONS = 16;
const MAX_STREAMS = 8;
const KEPT_CONNECTIONS = 2;
/** The API server closes what is idle after 90 s by default; a load balancer before it may do so sooner. */
const KEEP_MS = 45_000;
const MAX_PATIENCE = 3;
const JSON_TYPE = "application/json";

/** @throws KubeError when the server's address is none */
export function createKubeClient(options: KubeClientOptions): KubeClient {
  return new Client(options);
}

class Client implements KubeClient {
  readonly server: string;
  readonly #options: KubeClientOptions;
  readonly #url: URL;
  readonly #schedule: Schedule;
  readonly #calls: ConnectionPool;
  /** Of what creates something: a connection that was kept may be closed just when it is used, and nobody knows then what was done. */
  readonly #creates: ConnectionPool;
  readonly #streams: ConnectionPool;

  constructor(options: KubeClientOptions) {
    this.#options = options;
    this.#url = parseServer(options.server);
    this.server = options.server;
    this.#schedule = options.schedule ?? systemSchedule;
    this.#calls = this.#pool(MAX_CONNECTIONS, KEPT_CONNECTIONS);
    this.#creates = this.#pool(MAX_CONNECTIONS, 0);
    this.#streams = this.#pool(MAX_STREAMS, 0);
  }

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.read(path, { signal });
  }

  read<T>(path: string, options: ReadOptions): Promise<T> {
    return this.#call("GET", path, undefined, undefined, options);
  }

  create<T>(path: string, body: unknown): Promise<T> {
    return this.#call("POST", path, body, JSON_TYPE, {});
  }

  mergePatch<T>(path: string, body: unknown): Promise<T> {
    return this.#call("PATCH", path, body, "application/merge-patch+json", {});
  }

  async stream(path: string, options: StreamOptions, sink: Sink): Promise<void> {
    const call = { method: "GET", path, server: this.server };
    const accept = options.accept ?? JSON_TYPE;
    for (let first = true;; first = false) {
      const token = await this.#token(!first);
      const asked = this.#exchange(call, this.#streams, accept, token, options.signal);
      const refusal = await stream(asked, STREAM_OPEN_TIMEOUT_MS, options.silenceMs, sink);
      if (refusal === undefined) return;
      if (first && await this.#hasOtherToken(refusal, token)) continue;
      throw this.#refused(call, refusal, token);
    }
  }

  close(): void {
    for (const pool of [this.#calls, this.#creates, this.#streams]) pool.close();
  }

  async #call<T>(
    method: string,
    path: string,
    body: unknown,
    contentType: string | undefined,
    options: ReadOptions,
  ): Promise<T> {
    const call = { method, path, server: this.server };
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const endMs = performance.now() + timeoutMs;
    const bytes = body === undefined ? undefined : new TextEncoder().encode(JSON.stringify(body));
    const pool = method === "POST" ? this.#creates : this.#calls;
    let mayRetryConnection = method !== "POST";
    let mayReadToken = true;
    for (let patience = 0;;) {
      const token = await this.#token(!mayReadToken);
      const asked = this.#exchange(call, pool, options.accept ?? JSON_TYPE, token, options.signal);
      if (contentType !== undefined) asked.fields.push("content-type", contentType);
      const leftMs = Math.max(1, endMs - performance.now());
      let answer: Answer;
      try {
        answer = await exchange({ ...asked, body: bytes }, leftMs, options.maxBytes ?? MAX_BODY_BYTES);
      } catch (error) {
        // A connection that was kept may have been closed by the other side just when it was used again.
        if (!mayRetryConnection || !wasCut(error)) throw error;
        mayRetryConnection = false;
        continue;
      }
      if (answer.status >= 200 && answer.status < 300) return parseObject(call, answer.body) as T;
      if (mayReadToken && await this.#hasOtherToken(answer, token)) {
        mayReadToken = false;
        continue;
      }
      const error = this.#refused(call, answer, token);
      const waitMs = patience++ < MAX_PATIENCE ? wantedPatience(error, method) : undefined;
      if (waitMs === undefined || performance.now() + waitMs >= endMs) throw error;
      await this.#sleep(waitMs, options.signal);
    }
  }

  #pool(max: number, keep: number): ConnectionPool {
    const { ca, skipTlsVerify = false } = this.#options;
    const target = () => ({ url: this.#url, ca: typeof ca === "function" ? ca() : ca, skipTlsVerify });
    return new ConnectionPool({ target, schedule: this.#schedule, max, keep, keepMs: KEEP_MS });
  }

  #exchange(
    call: AskedCall,
    pool: ConnectionPool,
    accept: string,
    token: string | undefined,
    signal: AbortSignal | undefined,
  ): Exchange {
    const fields: Fields = ["host", this.#url.host, "user-agent", this.#options.userAgent ?? "ambit", "accept", accept];
    if (token !== undefined) fields.push("authorization", `Bearer ${token}`);
    const path = `${this.#url.pathname.replace(/\/$/, "")}${call.path}`;
    return { call, pool, path, fields, body: undefined, signal, schedule: this.#schedule };
  }

  async #token(fresh: boolean): Promise<string | undefined> {
    if (this.#url.protocol === "http:") return undefined;
    const token = await this.#options.token(fresh);
    if (token !== undefined) checkToken(token, this.server);
    return token;
  }

  /** Whether what was refused for its token can be asked with another one. */
  async #hasOtherToken({ status }: Answer, token: string | undefined): Promise<boolean> {
    return status === 401 && await this.#token(true) !== token;
  }

  #refused(call: AskedCall, { status, body, retryAfter }: Answer, token: string | undefined): KubeError {
    const described = token === undefined ? undefined : describeToken(token, Date.now());
    return refusalError(call, { status, body, retryAfter, token: described });
  }

  #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const aborted = () => {
        cancel();
        reject(signal?.reason);
      };
      const cancel = this.#schedule(() => {
        signal?.removeEventListener("abort", aborted);
        resolve();
      }, ms);
      if (signal?.aborted) aborted();
      else signal?.addEventListener("abort", aborted, { once: true });
    });
  }
}

function parseServer(server: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(server);
  } catch {
    url = undefined;
  }
  if (url !== undefined && /^https?:$/.test(url.protocol) && url.search === "" && url.hash === "") return url;
  throw new KubeError(`the API server's address ${JSON.stringify(server)} is no https:// address`, 0, "Address");
}

function wasCut(error: unknown): boolean {
  const code = ((error as KubeError).cause as { code?: unknown } | undefined)?.code;
  return error instanceof KubeError && (code === "ECONNRESET" || code === "EPIPE");
}

/** 429 comes before anything was done; after a 503 a write may have been. */
function wantedPatience(error: KubeError, method: string): number | undefined {
  if (error.status === 429) return error.retryAfterMs ?? 1_000;
  return error.status === 503 && method === "GET" ? error.retryAfterMs : undefined;
}

function parseObject(call: AskedCall, body: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw protocolError(
      call,
      "the answer is not JSON; is this the address of an API server, without a proxy in between?",
    );
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw protocolError(call, "the answer is JSON, but no object");
}
