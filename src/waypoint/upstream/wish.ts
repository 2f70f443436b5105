/** What of a request matters to the connection it goes over, and so tells connections apart: none of it, mostly. */
import type { TransportSpec, UpstreamTlsSpec } from "../spec/mod.ts";
import { hostOf } from "./authority.ts";
import type { ProxiedEnds } from "./dialer.ts";
import type { PickRequest } from "./upstream.ts";

export interface Wish {
  readonly serverName: string;
  readonly ends: ProxiedEnds | undefined;
}

export const NO_WISH: Wish = { serverName: "", ends: undefined };

export function wishOf(transport: TransportSpec, { authority, connection }: PickRequest): Wish {
  const { source, destination } = connection;
  const ends = transport.kind === "proxy protocol" ? { source, destination } : undefined;
  const tls = tlsOf(transport);
  const isNamed = tls !== undefined && (tls.autoSni || tls.autoSan);
  return ends === undefined && !isNamed ? NO_WISH : { serverName: isNamed ? hostOf(authority) : "", ends };
}

export function wishKey({ serverName, ends }: Wish): string {
  if (ends === undefined) return serverName;
  const { source, destination } = ends;
  return `${serverName} ${source.ip} ${source.port} ${destination.ip} ${destination.port}`;
}

function tlsOf(transport: TransportSpec): UpstreamTlsSpec | undefined {
  if (transport.kind === "proxy protocol") return tlsOf(transport.inner);
  return transport.kind === "tls" ? transport.tls : undefined;
}
