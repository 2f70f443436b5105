/** One connection of a client to a TCP chain: judged, given an endpoint, and then bytes until either end is done. */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { NetworkFilter, NetworkOutcome } from "../engine/request_context.ts";
import type { EngineServices } from "../engine/services.ts";
import type { ClusterName, TcpChainSpec } from "../spec/mod.ts";
import type { ByteSink, ByteStream, StreamCut } from "../transport/byte_stream.ts";
import { copyOf } from "../transport/copy.ts";
import type { StreamWaiter, UpstreamFailure, UpstreamHost, Wait } from "../upstream/upstream.ts";
import { hash53 } from "../router/xxhash64.ts";
import type { Chain, ChainSession, CompiledChain } from "./chains.ts";
import type { TcpFacts, WorkerHooks } from "./hooks.ts";
import { type RelayOutcome, type RelayOwner, StreamRelay } from "./stream_relay.ts";

type TcpCompiled = Extract<CompiledChain, { readonly kind: "tcp" }>;

export interface TcpSessionContext {
  readonly services: EngineServices;
  readonly hooks: WorkerHooks;
}

export class TcpSession implements ChainSession, ByteSink, StreamWaiter, RelayOwner {
  readonly #chain: Chain;
  readonly #spec: TcpChainSpec;
  readonly #stream: ByteStream;
  readonly #info: ConnectionInfo;
  readonly #context: TcpSessionContext;
  readonly #facts: TcpFacts;
  /** What came before there was an endpoint; its credit is not given back, so the stream's window bounds it. */
  #early: Uint8Array[] = [];
  #earlyEnd = false;
  #wait: Wait | undefined;
  /** Gives up what a filter waits for. */
  #cancelFilter: (() => void) | undefined;
  #judgedBy: readonly NetworkFilter[] = [];
  #relay: StreamRelay | undefined;
  #over = false;

  constructor(
    chain: Chain,
    compiled: TcpCompiled,
    stream: ByteStream,
    info: ConnectionInfo,
    context: TcpSessionContext,
    replay?: (sink: ByteSink) => void,
  ) {
    this.#chain = chain;
    this.#spec = compiled.spec;
    this.#stream = stream;
    this.#info = info;
    this.#context = context;
    this.#facts = {
      connection: info,
      chain: compiled.spec,
      startedAtWallMs: context.services.wallMs(),
      endedAtMs: undefined,
      bytesReceived: 0,
      bytesSent: 0,
      host: undefined,
      upstreamCluster: "",
      upstreamLocalAddress: "",
      upstreamFailure: "",
      flags: "",
      connectionTermination: "",
    };
    chain.sessions.add(this);
    stream.setSink(this);
    replay?.(this);
    context.hooks.tcpOpened(this.#facts);
    this.#judgeBy(compiled.filters, () => this.#connect());
  }

  // ---- before there is an endpoint

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (end > start) this.#early.push(copyOf(bytes, start, end));
    this.#earlyEnd ||= ended;
  }

  writable(): void {}

  broken({ detail }: StreamCut): void {
    this.#finish("DC", detail);
  }

  #judgeBy(filters: readonly NetworkFilter[], allowed: () => void): void {
    this.#cancelFilter?.();
    this.#cancelFilter = undefined;
    this.#judgedBy = filters;
    this.#judge(filters, 0, allowed);
  }

  /** One filter after the other; the first that denies ends it. */
  #judge(filters: readonly NetworkFilter[], at: number, allowed: () => void): void {
    if (this.#over) return;
    if (at === filters.length) return allowed();
    let decided = false;
    const cancel = filters[at].connection(this.#info, (outcome) => {
      if (decided) return;
      decided = true;
      if (outcome.allowed) this.#judge(filters, at + 1, allowed);
      else this.#deny(outcome);
    });
    if (!decided) this.#cancelFilter = cancel;
  }

  #deny({ details, flag }: NetworkOutcome): void {
    if (this.#over) return;
    this.#facts.connectionTermination = details;
    this.#facts.flags = flag ?? "";
    this.close(details);
  }

  #connect(): void {
    const { current } = this.#chain;
    if (current.kind !== "tcp") return this.close("its chain does not serve TCP any more");
    // A verdict may have taken its time, and be that of a policy that is gone.
    if (current.filters !== this.#judgedBy) return this.#judgeBy(current.filters, () => this.#connect());
    const name = this.#choose();
    const { services } = this.#context;
    const cluster = name === undefined ? undefined : services.clusters.get(name);
    this.#facts.upstreamCluster = name ?? "";
    if (cluster === undefined) {
      this.#facts.flags = "NC";
      return this.close(`the cluster ${name ?? ""} is not known`);
    }
    const wait = cluster.stream({
      connection: this.#info,
      hash: this.#spec.hashSourceIp ? hash53(this.#info.source.ip) : undefined,
      authority: this.#info.sni,
      tried: [],
      avoidTried: false,
      hostAttempts: 1,
      priorityUpdateFrequency: 0,
    }, this);
    if (!this.#over && this.#relay === undefined) this.#wait = wait;
  }

  #choose(): ClusterName | undefined {
    const { clusters } = this.#spec;
    if (clusters.length <= 1) return clusters[0]?.cluster;
    let at = this.#context.services.random() * clusters.reduce((sum, { weight }) => sum + weight, 0);
    for (const { cluster, weight } of clusters) {
      at -= weight;
      if (at < 0) return cluster;
    }
    return clusters.at(-1)?.cluster;
  }

  connected(stream: ByteStream, host: UpstreamHost, localAddress: string): void {
    this.#wait = undefined;
    if (this.#over) return stream.reset();
    this.#facts.host = host;
    this.#facts.upstreamLocalAddress = localAddress;
    const { idleTimeoutMs, maxConnectionMs } = this.#spec;
    const relay = new StreamRelay(
      this.#stream,
      stream,
      this.#context.services.timing,
      { idleTimeoutMs, maxConnectionMs },
      this,
    );
    this.#relay = relay;
    const early = this.#early;
    this.#early = [];
    for (let i = 0; i < early.length; i++) {
      relay.client.data(early[i], 0, early[i].length, this.#earlyEnd && i === early.length - 1);
    }
    if (this.#earlyEnd && early.length === 0) relay.client.data(EMPTY, 0, 0, true);
    // What changed while the endpoint was connected is in force for this one too.
    this.chainChanged();
  }

  failed({ flag, detail, reason }: UpstreamFailure, host: UpstreamHost | undefined): void {
    this.#wait = undefined;
    if (this.#over) return;
    this.#facts.host = host;
    this.#facts.upstreamFailure = detail === "" ? reason : detail;
    this.#facts.flags = flag;
    this.close(detail);
  }

  // ---- its end

  relayEnded(outcome: RelayOutcome): void {
    switch (outcome.kind) {
      case "complete":
        return this.#finish("", "");
      case "cut":
        return this.#finish(outcome.side === "client" ? "DC" : "UC", outcome.detail);
      case "idle":
        return this.#finish("SI", "idle for too long");
      case "too long":
        return this.#finish("DT", "its longest time is over");
      case "ended":
        return this.#finish("", outcome.reason);
    }
  }

  /** The bytes that flow are judged again by what is in force now. */
  chainChanged(): void {
    const { current } = this.#chain;
    if (current.kind !== "tcp") return this.close("its chain does not serve TCP any more");
    if (this.#relay !== undefined && current.filters !== this.#judgedBy) this.#judgeBy(current.filters, () => {});
  }

  /** A connection of bytes has no point at which it could be asked to end. */
  drain(): void {}

  close(reason: string): void {
    if (this.#over) return;
    if (this.#relay !== undefined) return this.#relay.end({ kind: "ended", reason });
    this.#wait?.cancel();
    if (!this.#stream.closed) this.#stream.reset();
    this.#finish("", reason);
  }

  #finish(flags: string, detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#wait?.cancel();
    this.#cancelFilter?.();
    this.#early = [];
    this.#chain.sessions.delete(this);
    const facts = this.#facts;
    if (facts.flags === "") facts.flags = flags;
    if (facts.connectionTermination === "") facts.connectionTermination = detail;
    facts.bytesReceived = this.#relay?.bytesFromClient ?? 0;
    facts.bytesSent = this.#relay?.bytesFromEndpoint ?? 0;
    facts.endedAtMs = this.#context.services.timing.nowMs;
    this.#context.hooks.tcpFinished(facts);
  }
}

const EMPTY = new Uint8Array(0);
