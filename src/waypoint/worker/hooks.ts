/** Where a worker's facts go: access logs, metrics and spans are made of them (telemetry/). Without telemetry they go nowhere. */
import type { Logger } from "../../telemetry/log.ts";
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { HttpFilter, RequestContext } from "../engine/request_context.ts";
import type { RbacCounters } from "../filters/rbac.ts";
import type { FormatEnvironment } from "../format/environment.ts";
import type { ChainSpec, ClusterName, HttpChainSpec, TcpChainSpec, TerminateSpec } from "../spec/mod.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";

const TARGET = "connection";

/** A connection of a TCP chain, from its first byte to its last. Read when it ends, and now and then before. */
export interface TcpFacts {
  readonly connection: ConnectionInfo;
  readonly chain: TcpChainSpec;
  readonly startedAtWallMs: number;
  endedAtMs: number | undefined;
  bytesReceived: number;
  bytesSent: number;
  host: UpstreamHost | undefined;
  upstreamCluster: ClusterName | "";
  upstreamLocalAddress: string;
  upstreamFailure: string;
  /** Envoy's flags: UF, UH, NC, … */
  flags: string;
  connectionTermination: string;
}

/** A CONNECT request that was answered with an error. */
export interface ConnectRefusal {
  readonly authority: string;
  readonly source: { readonly ip: string; readonly port: number };
  readonly peerPrincipal: string;
  readonly status: number;
  readonly reason: string;
  readonly flags: string;
  readonly startedAtWallMs: number;
}

/** What a client sent cannot be read as HTTP: nobody knows what it asked for. */
export interface MessageRefusal {
  readonly connection: ConnectionInfo;
  readonly chain: HttpChainSpec;
  readonly status: number;
  readonly reason: string;
  readonly startedAtWallMs: number;
}

export interface WorkerHooks {
  /** Chains and the terminating listener, as they come into force: what they ask of telemetry is made ready once. */
  configured(chains: readonly ChainSpec[], removed: readonly string[], terminate: TerminateSpec | undefined): void;
  /** A request is over. */
  requestFinished(context: RequestContext): void;
  /** A message that was no HTTP request was answered with an error. */
  messageRefused(refusal: MessageRefusal): void;
  tcpOpened(facts: TcpFacts): void;
  tcpFinished(facts: TcpFacts): void;
  connectRefused(refusal: ConnectRefusal, terminate: TerminateSpec | undefined): void;
  /** What the worker counts, in parts that are summed. Cloneable; each is made when it is asked for. */
  report(): Iterable<unknown>;
  /** The process ends: what is held back is written. */
  flush(): void;
}

/** Everything that a worker is observed by, made for its reactor. */
export interface WorkerInstruments {
  readonly hooks: WorkerHooks;
  /** What formats of logs, spans and header changes know. */
  readonly formats: FormatEnvironment;
  readonly rbac: RbacCounters;
  /** The first filter of a chain; undefined where nothing must be known before the others run. */
  filter(spec: HttpChainSpec): HttpFilter | undefined;
}

const NO_HOOKS: WorkerHooks = {
  configured: () => {},
  requestFinished: () => {},
  messageRefused: () => {},
  tcpOpened: () => {},
  tcpFinished: () => {},
  connectRefused: () => {},
  report: () => [],
  flush: () => {},
};

/** What an operator must know even where no access log is configured: who was refused, and why a connection of bytes came to nothing. */
export function createLogHooks(log: Logger): WorkerHooks {
  return {
    ...NO_HOOKS,
    connectRefused({ authority, source, peerPrincipal, status, reason }) {
      log.log("info", TARGET, "a CONNECT request was refused", {
        authority,
        "src.addr": source.ip,
        "src.identity": peerPrincipal,
        status,
        error: reason,
      });
    },
    messageRefused({ connection, chain, status, reason }) {
      log.log("info", TARGET, "a message that is no HTTP request was refused", {
        chain: chain.name,
        "src.addr": connection.source.ip,
        status,
        error: reason,
      });
    },
    tcpFinished({ connection, chain, flags, upstreamFailure, connectionTermination }) {
      const isDenied = connectionTermination.startsWith("rbac");
      if ((flags === "" || flags === "DC") && !isDenied) return;
      log.log("info", TARGET, isDenied ? "a TCP connection was denied" : "a TCP connection failed", {
        chain: chain.name,
        "src.addr": connection.source.ip,
        flags,
        error: upstreamFailure || connectionTermination,
      });
    },
  };
}

/** Both are told of connections; of requests, of which there are many more, `telemetry` alone. */
export function joinHooks(telemetry: WorkerHooks, log: WorkerHooks): WorkerHooks {
  return {
    configured: (chains, removed, terminate) => telemetry.configured(chains, removed, terminate),
    requestFinished: (context) => telemetry.requestFinished(context),
    messageRefused(refusal) {
      telemetry.messageRefused(refusal);
      log.messageRefused(refusal);
    },
    tcpOpened: (facts) => telemetry.tcpOpened(facts),
    tcpFinished(facts) {
      telemetry.tcpFinished(facts);
      log.tcpFinished(facts);
    },
    connectRefused(refusal, terminate) {
      telemetry.connectRefused(refusal, terminate);
      log.connectRefused(refusal, terminate);
    },
    report: () => telemetry.report(),
    flush: () => telemetry.flush(),
  };
}
