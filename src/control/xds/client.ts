/**
 * The xDS client: keeps one stream open, hands what comes to the sink in order, answers when that is in force, and comes back after
 * every end of the stream. The protocol's rules are in protocol.ts; nothing here opens a socket or reads a clock.
 */
import type { Logger } from "../../telemetry/log.ts";
import type { Limits } from "../../telemetry/limits.ts";
import type { XdsMetrics, XdsTermination } from "../../telemetry/xds_metrics.ts";
import { IstiodError, textOf } from "../istiod/errors.ts";
import { Backoff } from "./backoff.ts";
import { DeltaProtocol, type DeltaRequest, type NodeInfo, type Subscription } from "./protocol.ts";
import type { Rejection, XdsSink } from "./push.ts";
import { resourceNames } from "./resource_names.ts";
import type { XdsResponse, XdsStream } from "./stream.ts";
import { type DemandOutcome, Waiters } from "./waiters.ts";

export interface XdsClientOptions {
  /** For messages. */
  readonly address: string;
  /** Asked for in this order. */
  readonly subscriptions: readonly Subscription[];
  /** A function is asked again for each stream. */
  readonly node: NodeInfo | (() => NodeInfo);
  /** Rejects with IstiodError. */
  readonly open: (signal: AbortSignal) => Promise<XdsStream>;
  readonly sink: XdsSink;
  readonly log: Logger;
  readonly metrics: XdsMetrics;
  readonly limits: Pick<Limits, "reached">;
  /** Every wildcard type was acknowledged once. Called once. */
  readonly synced: () => void;
  /** Why `synced` was not called yet, whenever that changes. */
  readonly waiting: (reason: string) => void;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** Milliseconds on a clock that only moves forward. */
  readonly nowMs: () => number;
  /** Numbers from 0 to 1. */
  readonly random: () => number;
}

export interface XdsClient {
  /** Asks for one resource of an on-demand type and waits until it, or its absence, is in force. */
  demand(typeUrl: string, name: string, timeoutMs: number): Promise<DemandOutcome>;
  /** Makes the names that a named type is subscribed to exactly these. */
  watch(typeUrl: string, names: ReadonlySet<string>): void;
  /** Ends it for good. */
  close(): void;
}

/** A stream on which nothing comes for so long after it was opened is opened anew. istiod answers a first request at once. */
const FIRST_RESPONSE_MS = 60_000;
const TARGET = "xds";
/** Part of a rejection that the log shows; the server is told all. */
const LOGGED_REASON_CHARS = 2_000;
/** Statuses by which istiod or the way to it asks for a new stream. */
const RECONNECT_STATUSES: ReadonlySet<string> = new Set(["unknown", "canceled", "deadline_exceeded"]);
const RECONNECT_TEXT = /transport is closing|received prior goaway/i;

/** Connects, and reconnects until `close`. Returns at once. */
export function createXdsClient(options: XdsClientOptions): XdsClient {
  const client = new Client(options);
  void client.run();
  return client;
}

class Client implements XdsClient {
  readonly #options: XdsClientOptions;
  readonly #protocol: DeltaProtocol;
  readonly #backoff: Backoff;
  readonly #waiters = new Map<string, Waiters>();
  readonly #abort = new AbortController();
  #stream: XdsStream | undefined;
  #isSynced = false;

  constructor(options: XdsClientOptions) {
    this.#options = options;
    this.#protocol = new DeltaProtocol(options.subscriptions, options.node);
    this.#backoff = new Backoff(options.random);
    for (const { typeUrl, mode } of options.subscriptions) {
      if (mode === "on-demand") this.#waiters.set(typeUrl, new Waiters(options.schedule));
    }
  }

  demand(typeUrl: string, name: string, timeoutMs: number): Promise<DemandOutcome> {
    const waiters = this.#waiters.get(typeUrl);
    if (waiters === undefined) return Promise.reject(new Error(`${typeUrl} is not subscribed to on demand`));
    if (this.#abort.signal.aborted) return Promise.resolve("closed");
    const asked = waiters.has(name);
    const outcome = waiters.wait(name, timeoutMs).finally(() => {
      if (!waiters.has(name)) this.#protocol.settled(typeUrl, name);
    });
    if (!asked && waiters.has(name)) {
      const request = this.#protocol.demand(typeUrl, name);
      // Without a stream it goes out with the first request of the next one.
      this.#stream?.send(request);
    }
    return outcome;
  }

  watch(typeUrl: string, names: ReadonlySet<string>): void {
    const request = this.#protocol.watch(typeUrl, names, this.#stream !== undefined);
    if (request !== undefined) this.#stream?.send(request);
  }

  close(): void {
    this.#abort.abort();
    this.#stream?.close();
    for (const waiters of this.#waiters.values()) waiters.settleAll("closed");
  }

  async run(): Promise<void> {
    const { signal } = this.#abort;
    if (this.#protocol.unsynced.length === 0) this.#noteSynced();
    while (!signal.aborted) {
      const livedMs = await this.#follow();
      if (signal.aborted) return;
      await this.#sleep(this.#backoff.after(livedMs));
    }
  }

  /** One stream from its opening to its end. How long it lived, in milliseconds. */
  async #follow(): Promise<number> {
    const { address, open, nowMs, metrics, waiting } = this.#options;
    const { signal } = this.#abort;
    let openedMs: number | undefined;
    let responses = 0;
    let silence: IstiodError | undefined;
    let cancelWatch = () => {};
    let end: { readonly reason: XdsTermination; readonly error?: unknown };
    if (!this.#isSynced) waiting(`connecting to ${address}`);
    try {
      const stream = await open(signal);
      if (signal.aborted) {
        stream.close();
        return 0;
      }
      openedMs = nowMs();
      this.#stream = stream;
      cancelWatch = this.#options.schedule(() => {
        silence = new IstiodError("stream", `${address} sent nothing within ${FIRST_RESPONSE_MS / 1000} s`);
        stream.close();
      }, FIRST_RESPONSE_MS);
      for (const request of this.#protocol.open()) stream.send(request);
      this.#explain();
      for await (const response of stream.responses) {
        if (signal.aborted) return 0;
        if (responses++ === 0) this.#noteConnected(response, cancelWatch);
        await this.#receive(stream, response);
      }
      end = { reason: "Complete" };
    } catch (cause) {
      const error = silence ?? cause;
      end = { reason: responses === 0 ? "ConnectionError" : terminationOf(error), error };
    } finally {
      cancelWatch();
      this.#stream?.close();
      this.#stream = undefined;
    }
    if (signal.aborted) return 0;
    metrics.setConnected(false);
    metrics.connectionTerminated(end.reason);
    this.#noteEnd(end.reason, end.error);
    return openedMs === undefined ? 0 : nowMs() - openedMs;
  }

  async #receive(stream: XdsStream, response: XdsResponse): Promise<void> {
    const { log, metrics, nowMs, sink } = this.#options;
    const { typeUrl, resources, removed } = response;
    const receivedMs = nowMs();
    metrics.message(typeUrl, resources.reduce((sum, resource) => sum + resource.byteLength, 0));
    if (!this.#protocol.knows(typeUrl)) {
      log.log("warn", TARGET, "a response of a type that was not asked for; acknowledged and dropped", {
        type: typeUrl,
      });
      return stream.send(this.#protocol.applied(response, []));
    }
    let rejections: readonly Rejection[];
    try {
      rejections = await sink.apply(
        { typeUrl, resources, removed },
        (name, version) => this.#protocol.accepted(typeUrl, name, version),
      );
    } catch (cause) {
      // A bug of ours. What was not accepted is sent again on the next stream.
      throw new IstiodError(
        "local",
        `a response of ${typeUrl} could not be applied: ${textOf(cause)}`,
        undefined,
        cause,
      );
    }
    const reply = this.#protocol.applied(response, rejections);
    stream.send(reply);
    metrics.applied(typeUrl, nowMs() - receivedMs);
    this.#noteApplied(response, reply, rejections, nowMs() - receivedMs);
    this.#releaseWaiters(response, rejections);
    if (this.#protocol.unsynced.length === 0) this.#noteSynced();
    else this.#explain(reply.error);
  }

  #releaseWaiters({ typeUrl, resources, removed }: XdsResponse, rejections: readonly Rejection[]): void {
    const waiters = this.#waiters.get(typeUrl);
    if (waiters === undefined || waiters.size === 0) return;
    const rejected = new Set(rejections.map(({ name }) => name));
    for (const resource of resources) {
      const names = resourceNames(resource);
      const outcome = names.some((name) => rejected.has(name)) ? "rejected" : "arrived";
      for (const name of names) waiters.settle(name, outcome);
    }
    for (const name of removed) waiters.settle(name, "absent");
  }

  #noteSynced(): void {
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#options.synced();
  }

  /** Says what the first synchronisation still needs. */
  #explain(rejection?: string): void {
    if (this.#isSynced) return;
    const { address, waiting } = this.#options;
    const types = this.#protocol.unsynced.join(" and ");
    waiting(
      rejection === undefined
        ? `waiting for ${address} to send ${types}`
        : `what ${address} sent first cannot be used as a whole: ${rejection.slice(0, LOGGED_REASON_CHARS)}`,
    );
  }

  #noteConnected({ controlPlane }: XdsResponse, cancelWatch: () => void): void {
    cancelWatch();
    const { log, metrics, address } = this.#options;
    metrics.setConnected(true);
    log.log("info", TARGET, "stream established", {
      address,
      ...(controlPlane === "" ? {} : { "control.plane": controlPlane }),
    });
  }

  #noteApplied(response: XdsResponse, reply: DeltaRequest, rejections: readonly Rejection[], durationMs: number): void {
    const { log, metrics } = this.#options;
    const { typeUrl, resources, removed, nonce } = response;
    if (reply.error !== undefined) {
      metrics.rejected(typeUrl, rejections.length);
      log.log("warn", TARGET, "resources were rejected; what else the response held is in force", {
        type: typeUrl,
        resources: rejections.length,
        error: reply.error.slice(0, LOGGED_REASON_CHARS),
      });
    }
    if (!log.enabled("debug")) return;
    log.log("debug", TARGET, "received response", {
      type: typeUrl,
      nonce,
      size: resources.length,
      removes: removed.length,
      duration: `${durationMs.toFixed(1)}ms`,
    });
  }

  #noteEnd(reason: XdsTermination, cause: unknown): void {
    const { log, waiting } = this.#options;
    const error = cause === undefined ? "the server ended the stream" : textOf(cause);
    if (cause instanceof IstiodError && cause.kind === "limit") this.#options.limits.reached("xds_message", { error });
    if (!this.#isSynced) waiting(error);
    const level = reason === "Reconnect" || reason === "Complete" ? "debug" : "warn";
    log.log(
      level,
      TARGET,
      reason === "ConnectionError" ? "cannot connect; trying again" : "stream ended; connecting again",
      {
        reason,
        error,
      },
    );
  }

  #sleep(delayMs: number): Promise<void> {
    const { signal } = this.#abort;
    return new Promise((resolve) => {
      const done = () => {
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const cancel = this.#options.schedule(done, delayMs);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }
}

/** How the end of a stream that had worked is counted. */
function terminationOf(cause: unknown): XdsTermination {
  if (!(cause instanceof IstiodError)) return "Error";
  if (cause.kind === "stream") return "Reconnect";
  if (cause.kind !== "status") return "Error";
  if (RECONNECT_STATUSES.has(cause.status ?? "")) return "Reconnect";
  return cause.status === "unavailable" && RECONNECT_TEXT.test(cause.message) ? "Reconnect" : "Error";
}
