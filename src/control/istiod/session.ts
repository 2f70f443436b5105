/**
 * One connection to istiod: TCP, TLS with the mesh's root, HTTP/2, kept alive by PINGs (reference ztunnel, section 3.1). connect's
 * transport makes its calls over it.
 *
 * Not connect's own session manager, because here every step has a limit and a reason, the roots are those of this connection, and the
 * connection's window is set. A session never reconnects: who needs another opens another.
 */
import * as http2 from "node:http2";
import { isIP } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { CONNECTION_LIMITS, type ConnectionLimits, type IstiodEndpoint } from "./endpoint.ts";
import { describeConnectFailure, IstiodError, textOf } from "./errors.ts";
import { serverNameCheck } from "./server_name.ts";
import { tlsOptions } from "./tls_options.ts";
import type { TrustRoots } from "./trust_roots.ts";

/**
 * Windows for what istiod sends. The connection's must not be above the stream's: measured, Bun 1.4 then stops telling the server that the
 * stream may go on, and the transfer stands still for good (in all of six combinations with a connection window above
 * `initialWindowSize`, in none of seven with one that was equal or below). With these, 50 MB on loopback take 60 to 165 ms on Bun and 115
 * to 180 on Deno, 50 and 110 of them CPU. HTTP/2's own 64 KiB do as well there, but throttle a path with a round trip of some
 * milliseconds; with 4 MiB the event loop stood still for up to 28 ms instead of 13, and nothing was gained.
 */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 512 * 1024;

/** TCP keepalive, for a peer that is gone while no call is open. ztunnel's; the runtimes take no count of probes. */
const TCP_KEEPALIVE_MS = 300_000;

type SessionEndpoint = Pick<IstiodEndpoint, "address" | "altHostname" | "tls12Enabled" | "pqc">;

/** Rejects with IstiodError of kind `connect`, or `local` when the TLS asked for cannot be had. `signal` gives the attempt up. */
export async function openSession(
  endpoint: SessionEndpoint,
  roots: TrustRoots,
  limits: ConnectionLimits = CONNECTION_LIMITS,
  signal?: AbortSignal,
): Promise<Session> {
  const socket = await openSocket(endpoint, roots, limits, signal);
  try {
    return new Session(endpoint.address, socket, limits);
  } catch (cause) {
    socket.destroy();
    throw new IstiodError("connect", `cannot use ${endpoint.address}: ${textOf(cause)}`, undefined, cause);
  }
}

function openSocket(
  endpoint: SessionEndpoint,
  roots: TrustRoots,
  { connectMs }: ConnectionLimits,
  signal: AbortSignal | undefined,
): Promise<TLSSocket> {
  const { address, altHostname } = endpoint;
  const tls = tlsOptions(endpoint);
  const url = new URL(address);
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host,
      port: Number(url.port || 443),
      // RFC 6066 section 3: an address is no server name.
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ca: [...roots.certificates],
      ALPNProtocols: ["h2"],
      ...tls,
      checkServerIdentity: serverNameCheck(host, altHostname),
    });
    const give = (result: TLSSocket | IstiodError) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
      if (result instanceof IstiodError) {
        socket.destroy();
        reject(result);
      } else resolve(result);
    };
    const fail = (message: string, cause?: unknown) => give(new IstiodError("connect", message, undefined, cause));
    const tooLate = (what: string) => () => fail(`cannot reach ${address}: no ${what} within ${connectMs / 1000} s`);
    const aborted = () => fail(`cannot reach ${address}: given up`);
    let timer = setTimeout(tooLate("connection"), connectMs);
    signal?.addEventListener("abort", aborted);
    if (signal?.aborted) aborted();
    socket.once("connect", () => {
      clearTimeout(timer);
      timer = setTimeout(tooLate("TLS handshake"), connectMs);
    });
    // Stays, so that no later error is without a listener.
    socket.on("error", (cause) => fail(describeConnectFailure(cause, address, roots.origin), cause));
    socket.once("close", () => fail(`cannot reach ${address}: the connection was closed before TLS was set up`));
    socket.once("secureConnect", () => {
      if (!socket.authorized) {
        return fail(
          describeConnectFailure(socket.authorizationError, address, roots.origin),
          socket.authorizationError,
        );
      }
      if (socket.alpnProtocol !== "h2") return fail(`cannot use ${address}: it does not speak HTTP/2`);
      socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
      give(socket);
    });
  });
}

/** Made by `openSession`. `authority`, `request` and `notifyResponseByteRead` are what connect's transport asks of a session manager. */
export class Session {
  readonly authority: string;
  /** Resolves when the connection is no more, with the reason. */
  readonly closed: Promise<IstiodError>;
  readonly #session: http2.ClientHttp2Session;
  readonly #limits: ConnectionLimits;
  readonly #setClosed: (reason: IstiodError) => void;
  #open = 0;
  #draining = false;
  #reason: IstiodError | undefined;
  #pingTimer: ReturnType<typeof setTimeout> | undefined;
  #idleSinceMs = performance.now();

  constructor(address: string, socket: TLSSocket, limits: ConnectionLimits) {
    this.authority = new URL(address).origin;
    this.#limits = limits;
    const { promise, resolve } = Promise.withResolvers<IstiodError>();
    this.closed = promise;
    this.#setClosed = resolve;
    const session = http2.connect(address, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    this.#session = session;
    session.on("error", (cause) => this.#end(`the connection to ${this.authority} broke: ${cause.message}`, cause));
    session.on("close", () => this.#end(`the connection to ${this.authority} was closed`));
    session.on("goaway", (code) => {
      this.#draining = true;
      if (this.#open === 0) this.#end(`${this.authority} ended the connection (GOAWAY ${code})`);
    });
    session.once("connect", () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  }

  /** Whether a new call may be made here. */
  get usable(): boolean {
    return this.#reason === undefined && !this.#draining && !this.#session.closed && !this.#session.destroyed;
  }

  /** Calls under way. */
  get openCalls(): number {
    return this.#open;
  }

  /** How long no call has been under way; 0 while one is. */
  get idleMs(): number {
    return this.#open > 0 ? 0 : performance.now() - this.#idleSinceMs;
  }

  /** For connect's transport. */
  async request(
    method: string,
    path: string,
    headers: http2.OutgoingHttpHeaders,
    options: http2.ClientSessionRequestOptions,
  ): Promise<http2.ClientHttp2Stream> {
    if (!this.usable) {
      throw this.#reason ?? new IstiodError("stream", `the connection to ${this.authority} takes no more calls`);
    }
    const stream = this.#session.request({ ...headers, ":method": method, ":path": path }, options);
    if (this.#open++ === 0) this.#schedulePing();
    stream.once("close", () => {
      this.#idleSinceMs = performance.now();
      if (--this.#open > 0) return;
      clearTimeout(this.#pingTimer);
      if (this.#draining) this.#end(`${this.authority} ended the connection`);
    });
    return stream;
  }

  /** For connect's transport: what came from the server proves that it lives. */
  notifyResponseByteRead(): void {
    // A PING more costs nothing, a timer set anew for each chunk does.
  }

  /** Lets calls finish that are under way, and takes no new ones. */
  retire(): void {
    this.#draining = true;
    if (this.#open === 0) this.close();
  }

  /** Ends it at once, calls under way too. */
  close(): void {
    this.#end(`the connection to ${this.authority} was given up`);
  }

  #schedulePing(): void {
    clearTimeout(this.#pingTimer);
    this.#pingTimer = setTimeout(() => this.#ping(), this.#limits.pingIntervalMs);
  }

  #ping(): void {
    const { pingTimeoutMs } = this.#limits;
    this.#pingTimer = setTimeout(
      () => this.#end(`${this.authority} did not answer a keepalive PING within ${pingTimeoutMs / 1000} s`),
      pingTimeoutMs,
    );
    this.#session.ping((error) => {
      if (error === null || error === undefined) {
        return this.#open > 0 ? this.#schedulePing() : clearTimeout(this.#pingTimer);
      }
      // The session ends by itself, or has ended.
    });
  }

  #end(message: string, cause?: unknown): void {
    if (this.#reason !== undefined) return;
    this.#reason = new IstiodError("stream", message, undefined, cause);
    clearTimeout(this.#pingTimer);
    // Calls under way end with the reason rather than with a bare cancellation.
    if (!this.#session.destroyed) {
      if (this.#open > 0) this.#session.destroy(this.#reason);
      else this.#session.destroy();
    }
    this.#setClosed(this.#reason);
  }
}
