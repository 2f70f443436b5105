/** A waypoint's listeners: what CONNECT does, which chain a connection takes, and each chain. */
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type FilterChain, FilterChainSchema } from "../../gen/envoy/config/listener/v3/listener_components_pb.ts";
import { type Listener, ListenerSchema } from "../../gen/envoy/config/listener/v3/listener_pb.ts";
import { ConfigSchema as SetFilterStateSchema } from "../../gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.ts";
import { RouterSchema } from "../../gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
  type HttpFilter,
} from "../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { ConfigSchema as NetworkFilterStateSchema } from "../../gen/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state_pb.ts";
import { TcpProxySchema } from "../../gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import type { ChainName, ChainSpec, TerminateSpec } from "../spec/mod.ts";
import { accessLogs, type Warn } from "./access_log.ts";
import { expectUnderstood, milliseconds, typeOf, understand, unpack, Unsupported, within } from "./guard.ts";
import { type DiscoveredFilters, httpChain, MANAGER } from "./http_chain.ts";
import { expectKnownState, isPeerMetadata, isWithoutEffect, tcpChain } from "./network_filters.ts";
import { terminateTls } from "./tls.ts";

/** Field number of Listener.filter_chains and FilterChain.name. */
const FILTER_CHAINS = 3;
const CHAIN_NAME = 7;

/** The encoded filter chains of an encoded listener, and what is left of it: so that a chain that did not change is not decoded. */
export function splitListener(bytes: Uint8Array): {
  readonly listener: Listener;
  readonly chains: readonly { readonly name: ChainName; readonly bytes: Uint8Array }[];
} {
  const reader = new BinaryReader(bytes);
  const rest: Uint8Array[] = [];
  const chains: { name: ChainName; bytes: Uint8Array }[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [field, wireType] = reader.tag();
    if (field === FILTER_CHAINS) {
      const chain = reader.bytes();
      chains.push({ name: chainName(chain), bytes: chain });
    } else {
      reader.skip(wireType, field);
      rest.push(bytes.subarray(start, reader.pos));
    }
  }
  return { listener: fromBinary(ListenerSchema, concat(rest)), chains };
}

function chainName(bytes: Uint8Array): ChainName {
  const reader = new BinaryReader(bytes);
  let name = "";
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === CHAIN_NAME) name = reader.string();
    else reader.skip(wireType, field);
  }
  return name as ChainName;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const CHAIN = understand(FilterChainSchema, "name filters", "metadata");

/** An inner chain; one that cannot be honoured is refused, not left out. */
export function chainSpec(bytes: Uint8Array, discovered: DiscoveredFilters, warn: Warn): ChainSpec {
  const chain = fromBinary(FilterChainSchema, bytes);
  const name = chain.name as ChainName;
  const isHttp = typeOf(lastConfig(chain)) === HttpConnectionManagerSchema.typeName;
  try {
    expectUnderstood(CHAIN, chain);
    return isHttp ? innerHttp(name, chain, discovered, warn) : tcpChain(name, chain.filters, warn);
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    return { kind: "refused", name, reason: error.message, http: isHttp };
  }
}

function lastConfig({ filters }: FilterChain) {
  const last = filters.at(-1);
  return last?.configType.case === "typedConfig" ? last.configType.value : undefined;
}

function innerHttp(name: ChainName, chain: FilterChain, discovered: DiscoveredFilters, warn: Warn): ChainSpec {
  for (const filter of chain.filters.slice(0, -1)) {
    if (!within(`filter ${filter.name}`, () => isWithoutEffect(filter))) {
      throw new Unsupported(
        `filter ${filter.name}: ${typeOf(filter.configType.value as never)} is not supported before HTTP`,
      );
    }
  }
  const any = lastConfig(chain);
  if (any === undefined) throw new Unsupported("a chain without filters is not supported");
  return httpChain(name, any, discovered, warn);
}

const TERMINATE_CHAIN = understand(FilterChainSchema, "name filters transport_socket", "metadata");
const MAX_STREAMS = 100;

/** CONNECT on port 15008. What it cannot honour stands in `refusal`. @throws Unsupported when it is not even known who may connect */
export function terminate(chains: readonly { readonly bytes: Uint8Array }[], warn: Warn): TerminateSpec {
  if (chains.length !== 1) throw new Unsupported(`${chains.length} chains on port 15008 are not supported`);
  const chain = fromBinary(FilterChainSchema, chains[0].bytes);
  expectUnderstood(TERMINATE_CHAIN, chain);
  const { peerNames } = terminateTls(chain.transportSocket);
  let manager: HttpConnectionManager | undefined, refusal: string | undefined;
  try {
    if (chain.filters.length !== 1) throw new Unsupported("network filters before CONNECT are not supported");
    manager = unpack(lastConfig(chain), MANAGER);
    for (const filter of manager.httpFilters) within(`filter ${filter.name}`, () => terminateFilter(filter));
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    refusal = error.message;
  }
  const http2 = manager?.http2ProtocolOptions;
  return {
    peerNames,
    maxConcurrentStreams: http2?.maxConcurrentStreams ?? MAX_STREAMS,
    pingIntervalMs: milliseconds(http2?.connectionKeepalive?.interval, 0),
    pingTimeoutMs: milliseconds(http2?.connectionKeepalive?.timeout, 0),
    accessLogs: accessLogs(manager?.accessLog ?? [], warn),
    refusal,
  };
}

const SET_FILTER_STATE = understand(SetFilterStateSchema, "on_request_headers");
const ROUTER = understand(RouterSchema, "", "start_child_span suppress_envoy_headers dynamic_stats");
/** What `ConnectionInfo` holds. */
const CONNECTION_STATE: ReadonlyMap<string, readonly string[]> = new Map([
  ["envoy.filters.listener.original_dst.local_ip", ["%REQ(:AUTHORITY)%"]],
  ["io.istio.connect_authority", ["%REQ(:AUTHORITY)%"]],
  ["envoy.filters.listener.original_dst.remote_ip", ["%DOWNSTREAM_REMOTE_ADDRESS%"]],
  ["io.istio.peer_principal", ["%DOWNSTREAM_PEER_URI_SAN%"]],
  ["io.istio.local_principal", ["%DOWNSTREAM_LOCAL_URI_SAN%"]],
]);

function terminateFilter(filter: HttpFilter): void {
  if (filter.disabled) return;
  if (filter.configType.case !== "typedConfig") {
    throw new Unsupported("a filter by discovery is not supported before CONNECT");
  }
  const any = filter.configType.value;
  switch (typeOf(any)) {
    case RouterSchema.typeName:
      return void unpack(any, ROUTER);
    case SetFilterStateSchema.typeName:
      return expectKnownState(unpack(any, SET_FILTER_STATE).onRequestHeaders, CONNECTION_STATE);
    default:
      if (!isPeerMetadata(any)) throw new Unsupported(`${typeOf(any)} is not supported before CONNECT`);
  }
}

/** A listener that stands between Envoy and its tunnels: nothing may be in it that decides. @throws Unsupported */
export function expectPlumbing(chains: readonly { readonly bytes: Uint8Array }[]): void {
  for (const { bytes } of chains) {
    for (const filter of fromBinary(FilterChainSchema, bytes).filters) {
      const any = filter.configType.case === "typedConfig" ? filter.configType.value : undefined;
      if (PLUMBING.has(typeOf(any)) || isWithoutEffect(filter)) continue;
      throw new Unsupported(`filter ${filter.name}: ${typeOf(any)} is not supported before a tunnel`);
    }
  }
}

/** Bytes go into the tunnel, and an endpoint's address from one internal listener to the next. */
const PLUMBING: ReadonlySet<string> = new Set([TcpProxySchema.typeName, NetworkFilterStateSchema.typeName]);
