/** Signs certificate requests at istiod's CA: `istio.v1.auth.IstioCertificateService/CreateCertificate` (reference ztunnel, section 4). */
import { create } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import {
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateService,
} from "../../gen/istio/auth/ca_pb.ts";
import type { Authority } from "../../identity/certificate_store.ts";
import type { Logger } from "../../telemetry/log.ts";
import {
  callHeaders,
  type ConnectionLimits,
  createTransport,
  type IstiodEndpoint,
  IstiodError,
  openSession,
  readTrustRoots,
  type Session,
  textOf,
  toIstiodError,
  type TrustRoots,
} from "../istiod/mod.ts";
import { readCertificateChain } from "./certificate_chain.ts";

export interface CaClientOptions {
  readonly endpoint: IstiodEndpoint;
  /** Life that is asked for; istiod may give less. */
  readonly validityMs: number;
  /** Shared mode: the node's own token asks for certificates of its pods. */
  readonly impersonate: boolean;
  /** Of the cluster's signers, the one that shall sign; "": istiod's own choice. */
  readonly certSigner?: string;
  readonly log: Logger;
  /** Of one call, its connection included. */
  readonly deadlineMs?: number;
  readonly limits?: ConnectionLimits;
}

export interface CaClient extends Authority {
  close(): void;
}

/** The certificate store waits as long. */
const DEADLINE_MS = 10_000;
/**
 * A connection on which nothing was asked for so long is not used again: what happened to it meanwhile would show only as a call that
 * never ends. Less than the keepalive's interval, as PINGs are sent only while calls are open.
 */
const IDLE_MS = 30_000;
const TARGET = "ca";

interface Channel {
  readonly session: Session;
  readonly transport: Transport;
  readonly roots: TrustRoots;
}

export function createCaClient(options: CaClientOptions): CaClient {
  return new Client(options);
}

class Client implements CaClient {
  readonly #options: CaClientOptions;
  #channel: Channel | undefined;
  #connecting: Promise<Channel> | undefined;
  /** The last that could be read: what istiod's ConfigMap holds for a moment does not end a connection that works. */
  #roots: TrustRoots | undefined;
  #closed = false;

  constructor(options: CaClientOptions) {
    this.#options = options;
  }

  async requestCertificate(identity: string, csrPem: string) {
    const { endpoint, validityMs, impersonate, certSigner = "", deadlineMs = DEADLINE_MS } = this.#options;
    const metadata = {
      ...(impersonate ? { ImpersonatedIdentity: identity } : {}),
      ...(certSigner === "" ? {} : { CertSigner: certSigner }),
    };
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), deadlineMs);
    let response: IstioCertificateResponse;
    try {
      const headers = callHeaders(endpoint);
      const { transport } = await untilAborted(this.#ready(), abort.signal);
      const request = create(IstioCertificateRequestSchema, {
        csr: csrPem,
        validityDuration: BigInt(Math.round(validityMs / 1000)),
        ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
      });
      const method = IstioCertificateService.method.createCertificate;
      ({ message: response } = await transport.unary(method, abort.signal, deadlineMs, headers, request));
    } catch (cause) {
      if (abort.signal.aborted) {
        throw new IstiodError("stream", `the CA ${endpoint.address} did not answer within ${deadlineMs / 1000} s`);
      }
      throw toIstiodError(cause, `the CA ${endpoint.address}`);
    } finally {
      clearTimeout(timer);
    }
    return readCertificateChain(response.certChain);
  }

  close(): void {
    this.#closed = true;
    this.#channel?.session.close();
    this.#channel = undefined;
  }

  /** A channel with the roots of now; the one there is where a new one cannot be made. */
  #ready(): Promise<Channel> {
    if (this.#closed) return Promise.reject(new IstiodError("local", "the CA client is closed"));
    const roots = this.#currentRoots();
    const channel = this.#channel;
    const alive = channel !== undefined && channel.session.usable && channel.session.idleMs < IDLE_MS;
    if (alive && sameRoots(channel.roots, roots)) return Promise.resolve(channel);
    this.#connecting ??= this.#connect(roots).finally(() => this.#connecting = undefined);
    if (!alive) return this.#connecting;
    return this.#connecting.catch((cause) => {
      if (!channel.session.usable) throw cause;
      this.#options.log.log(
        "warn",
        TARGET,
        "the roots changed, but no connection can be made with them; the old one stays",
        {
          error: textOf(cause),
        },
      );
      return channel;
    });
  }

  async #connect(roots: TrustRoots): Promise<Channel> {
    const { endpoint, limits } = this.#options;
    const session = await openSession(endpoint, roots, limits);
    if (this.#closed) {
      session.close();
      throw new IstiodError("local", "the CA client is closed");
    }
    // Calls under way on the old one finish there.
    this.#channel?.session.retire();
    this.#channel = { session, transport: createTransport(endpoint.address, session), roots };
    return this.#channel;
  }

  /**
   * Read at each request rather than watched: a change matters only now, none is missed, and a file that is just being written is read
   * again at the next request.
   */
  #currentRoots(): TrustRoots {
    try {
      this.#roots = readTrustRoots(this.#options.endpoint.root);
    } catch (cause) {
      if (this.#roots === undefined) throw cause;
      this.#options.log.log("warn", TARGET, "the roots cannot be read; the last ones stay", { error: textOf(cause) });
    }
    return this.#roots;
  }
}

function sameRoots(a: TrustRoots, b: TrustRoots): boolean {
  return a === b ||
    (a.certificates.length === b.certificates.length && a.certificates.every((pem, i) => pem === b.certificates[i]));
}

/** Gives up waiting, not what is waited for: others may wait for the same connection. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(new IstiodError("stream", "given up"));
    signal.addEventListener("abort", aborted);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}
