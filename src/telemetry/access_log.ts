/**
 * Access-log lines of the L4 proxy: target `access`, field names and order as Istio's ztunnel
 * writes them, because people and tools parse them. Formatting is one string build per line.
 */
import type { Log } from "./log.ts";
import { bareText, quoted } from "./log_line.ts";

export const ACCESS_TARGET = "access";

/** One end of a connection; absent values are left out of the line. */
export interface AccessPeer {
  /** Pod name, or the canonical service where there is none. */
  readonly workload: string | undefined;
  readonly namespace: string | undefined;
  /** The SPIFFE id, only if this connection proved it by mTLS. */
  readonly identity: string | undefined;
  readonly cluster: string | undefined;
}

export interface AccessConnection {
  /** `ip:port`. */
  readonly sourceAddress: string;
  readonly source: AccessPeer;
  /** `ip:port` of the next hop (outbound), of the pod's tunnel port (inbound). */
  readonly destinationAddress: string;
  /** The tunnel's `:authority`, if there is a tunnel. */
  readonly hboneAddress: string | undefined;
  /** Host name of the service. */
  readonly service: string | undefined;
  readonly destination: AccessPeer;
  readonly direction: "outbound" | "inbound";
}

/** Both counts are seen from the local workload. */
export interface AccessOutcome {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly durationMs: number;
  /** Why the connection failed; undefined for one that ended well. */
  readonly error: string | undefined;
}

export interface AccessLog {
  /** DEBUG, when the connection is set up. */
  opened(connection: AccessConnection): void;
  /** INFO, or ERROR with the reason, when it has ended. */
  complete(connection: AccessConnection, outcome: AccessOutcome): void;
  /** WARN, when it was refused before anything is known of its ends. */
  failed(sourceAddress: string, destinationAddress: string, direction: "outbound" | "inbound", error: string): void;
}

export function createAccessLog(log: Log): AccessLog {
  const syntax = log.format === "json" ? JSON_SYNTAX : PLAIN_SYNTAX;
  return {
    opened(connection) {
      if (!log.enabledFor("debug", ACCESS_TARGET)) return;
      log.writeLine(
        syntax.head("debug", log.timestamp(), "connection opened") + syntax.connection(connection) + syntax.tail,
      );
    },
    complete(connection, outcome) {
      const level = outcome.error === undefined ? "info" : "error";
      if (!log.enabledFor(level, ACCESS_TARGET)) return;
      log.writeLine(
        syntax.head(level, log.timestamp(), "connection complete") + syntax.connection(connection) +
          syntax.outcome(outcome) + syntax.tail,
      );
    },
    failed(sourceAddress, destinationAddress, direction, error) {
      if (!log.enabledFor("warn", ACCESS_TARGET)) return;
      log.log("warn", ACCESS_TARGET, "connection failed", {
        "src.addr": { bare: sourceAddress },
        "dst.addr": { bare: destinationAddress },
        direction,
        error,
      });
    },
  };
}

interface Syntax {
  head(level: string, time: string, message: string): string;
  connection(connection: AccessConnection): string;
  outcome(outcome: AccessOutcome): string;
  readonly tail: string;
}

const PLAIN_SYNTAX: Syntax = {
  head: (level, time, message) => time + "\t" + level + "\taccess\t" + message + "\t",
  connection(c) {
    const { source, destination } = c;
    let line = "src.addr=" + bareText(c.sourceAddress);
    if (source.workload !== undefined) line += " src.workload=" + quoted(source.workload);
    if (source.namespace !== undefined) line += " src.namespace=" + quoted(source.namespace);
    if (source.identity !== undefined) line += " src.identity=" + quoted(source.identity);
    if (source.cluster !== undefined) line += " src.cluster=" + quoted(source.cluster);
    line += " dst.addr=" + bareText(c.destinationAddress);
    if (c.hboneAddress !== undefined) line += " dst.hbone_addr=" + bareText(c.hboneAddress);
    if (c.service !== undefined) line += " dst.service=" + quoted(c.service);
    if (destination.workload !== undefined) line += " dst.workload=" + quoted(destination.workload);
    if (destination.namespace !== undefined) line += " dst.namespace=" + quoted(destination.namespace);
    if (destination.identity !== undefined) line += " dst.identity=" + quoted(destination.identity);
    if (destination.cluster !== undefined) line += " dst.cluster=" + quoted(destination.cluster);
    return line + ' direction="' + c.direction + '"';
  },
  outcome(o) {
    const line = " bytes_sent=" + o.bytesSent + " bytes_recv=" + o.bytesReceived + ' duration="' +
      Math.round(o.durationMs) + 'ms"';
    return o.error === undefined ? line : line + " error=" + quoted(o.error);
  },
  tail: "\n",
};

const JSON_SYNTAX: Syntax = {
  head: (level, time, message) => `{"level":"${level}","time":"${time}","scope":"access","message":"${message}",`,
  connection(c) {
    const { source, destination } = c;
    let line = '"src.addr":' + quoted(c.sourceAddress);
    if (source.workload !== undefined) line += ',"src.workload":' + quoted(source.workload);
    if (source.namespace !== undefined) line += ',"src.namespace":' + quoted(source.namespace);
    if (source.identity !== undefined) line += ',"src.identity":' + quoted(source.identity);
    if (source.cluster !== undefined) line += ',"src.cluster":' + quoted(source.cluster);
    line += ',"dst.addr":' + quoted(c.destinationAddress);
    if (c.hboneAddress !== undefined) line += ',"dst.hbone_addr":' + quoted(c.hboneAddress);
    if (c.service !== undefined) line += ',"dst.service":' + quoted(c.service);
    if (destination.workload !== undefined) line += ',"dst.workload":' + quoted(destination.workload);
    if (destination.namespace !== undefined) line += ',"dst.namespace":' + quoted(destination.namespace);
    if (destination.identity !== undefined) line += ',"dst.identity":' + quoted(destination.identity);
    if (destination.cluster !== undefined) line += ',"dst.cluster":' + quoted(destination.cluster);
    return line + ',"direction":"' + c.direction + '"';
  },
  outcome(o) {
    const line = ',"bytes_sent":' + o.bytesSent + ',"bytes_recv":' + o.bytesReceived + ',"duration":"' +
      Math.round(o.durationMs) + 'ms"';
    return o.error === undefined ? line : line + ',"error":' + quoted(o.error);
  },
  tail: "}\n",
};
