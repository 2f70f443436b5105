/** What the data path needs of ztunnel's configuration. */
import type { ZtunnelConfig } from "../cli/config.ts";
import type { SocketTuning } from "../net/socket_factory.ts";
import type { DnsSettings } from "./dns/settings.ts";
import type { TlsPolicy } from "../platform/tls_policy.ts";
import type { WorkerSettings } from "./messages.ts";

/** The proxy's own ports in a pod, and the SOCKS port when it is on: a connection to one of them would come back. */
const PROXY_PORTS = [15008, 15006, 15001] as const;
export const SOCKS_PORT = 15080;

export function workerSettings(config: ZtunnelConfig): WorkerSettings {
  const { socket } = config;
  return {
    network: config.network,
    clusterId: config.clusterId,
    packetMark: config.packetMark,
    ipv6Enabled: config.ipv6Enabled,
    illegalPorts: config.socks5Enabled ? [...PROXY_PORTS, SOCKS_PORT] : PROXY_PORTS,
    localhostAppTunnel: config.localhostAppTunnel,
    names: { clusterDomain: config.clusterDomain, preferredNamespace: config.preferredServiceNamespace },
    responseBaggage: config.responseBaggage,
    policyInfoLogging: config.authzPolicyInfoLogging,
    poolMaxStreamsPerConnection: config.poolMaxStreamsPerConnection,
    poolUnusedReleaseMs: config.poolUnusedReleaseTimeoutMs,
    streamWindowBytes: config.http2StreamWindowBytes,
    connectionWindowBytes: config.http2ConnectionWindowBytes,
    maxFrameBytes: config.http2FrameBytes,
    keepaliveEnabled: socket.keepaliveEnabled,
    keepaliveIdleSeconds: Math.max(1, Math.round(socket.keepaliveTimeMs / 1000)),
    keepaliveIntervalSeconds: Math.max(1, Math.round(socket.keepaliveIntervalMs / 1000)),
    keepaliveProbes: socket.keepaliveRetries,
    userTimeoutMs: socket.userTimeoutEnabled
      ? socket.keepaliveTimeMs + socket.keepaliveRetries * socket.keepaliveIntervalMs
      : undefined,
    tls: tlsPolicy(config),
    logFormat: config.log.format,
    istioVersion: config.istioVersion,
    dns: config.dnsProxyEnabled ? dnsSettings(config) : undefined,
  };
}

function dnsSettings(config: ZtunnelConfig): DnsSettings {
  return {
    clusterDomain: config.clusterDomain.toLowerCase(),
    preferredNamespace: config.preferredServiceNamespace,
    ttlSeconds: config.dnsTtlSeconds,
    ipv6Enabled: config.ipv6Enabled,
    systemSearch: config.proxyMode === "dedicated",
  };
}

/** What TLS is spoken with peers. */
export function tlsPolicy(config: Pick<ZtunnelConfig, "tls12Enabled" | "compliancePolicy">): TlsPolicy {
  return { tls12: config.tls12Enabled, pqc: config.compliancePolicy === "pqc" };
}

/** What every data connection has set. */
export function socketTuning(settings: WorkerSettings): SocketTuning {
  return {
    keepalive: settings.keepaliveEnabled
      ? {
        idleSeconds: settings.keepaliveIdleSeconds,
        intervalSeconds: settings.keepaliveIntervalSeconds,
        probes: settings.keepaliveProbes,
      }
      : undefined,
    userTimeoutMs: settings.userTimeoutMs,
  };
}
