/** Envoy's attributes (its document "Attributes"), from the facts of a request or connection. What did not happen is not there. */
import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { withoutQuery } from "../match/path.ts";
import type { CelAttributes } from "./cel_program.ts";
import type { FormatFacts } from "./facts.ts";
import { hostOfFacts, peerRecord, upstreamPeer, withoutPort, withPort } from "./peer.ts";

type Attribute = (facts: FormatFacts, context: CelAttributes) => unknown;

/** The top-level names that an expression may read. */
export const ATTRIBUTES: Readonly<Record<string, Attribute>> = {
  request: ({ request, ...facts }) => {
    if (request === undefined) return undefined;
    const { head, original } = request;
    const headers = fieldMap(head.headers, {
      ":method": original.method,
      ":path": original.path,
      ":authority": original.authority,
      ":scheme": head.scheme,
    });
    const question = original.path.indexOf("?");
    return present({
      path: original.path,
      url_path: withoutQuery(original.path),
      query: question < 0 ? "" : original.path.slice(question + 1).split("#", 1)[0],
      host: original.authority,
      scheme: head.scheme,
      method: original.method,
      headers,
      referer: headers["referer"],
      useragent: headers["user-agent"],
      id: headers["x-request-id"],
      protocol: `HTTP/${head.version}`,
      time: timestamp(request.facts.startedAtWallMs),
      duration: duration(request.facts.startedAtMs, facts.endedAtMs),
      size: BigInt(facts.bytesReceived),
      total_size: BigInt(facts.bytesReceived + request.exchange.bytes.headReceived),
    });
  },
  response: ({ request, ...facts }) => {
    if (request === undefined) return present({ flags: facts.responseFlags });
    const { facts: { status, responseHeaders, responseTrailers, grpcStatus, startedAtMs, upstreamRespondedAtMs } } =
      request;
    return present({
      code: status === 0 ? undefined : BigInt(status),
      code_details: request.details === "" ? undefined : request.details,
      flags: facts.responseFlags,
      grpc_status: grpcStatus === "" ? undefined : BigInt(Number(grpcStatus) || 0),
      headers: fieldMap(responseHeaders, { ":status": String(status) }),
      trailers: fieldMap(responseTrailers, {}),
      size: BigInt(facts.bytesSent),
      total_size: BigInt(facts.bytesSent + request.exchange.bytes.headSent),
      backend_latency: duration(startedAtMs, upstreamRespondedAtMs),
    });
  },
  source: ({ connection: { source, peerPrincipal } }) =>
    present({
      address: withPort(source),
      port: BigInt(source.port),
      principal: peerPrincipal === "" ? undefined : peerPrincipal,
    }),
  destination: ({ connection: { destination, localPrincipal } }) =>
    present({ address: withPort(destination), port: BigInt(destination.port), principal: localPrincipal }),
  connection: ({ connection, connectionTermination }) =>
    present({
      id: BigInt(connection.id),
      mtls: connection.peerPrincipal !== "",
      requested_server_name: connection.sni,
      tls_version: connection.peerPrincipal === "" ? undefined : "TLSv1.3",
      uri_san_local_certificate: connection.localPrincipal,
      uri_san_peer_certificate: connection.peerPrincipal,
      termination_details: connectionTermination === "" ? undefined : connectionTermination,
    }),
  upstream: ({ upstreamHost, upstreamLocalAddress, upstreamFailure, request }) =>
    present({
      address: upstreamHost === "" ? undefined : upstreamHost,
      port: port(upstreamHost),
      local_address: upstreamLocalAddress === "" ? undefined : upstreamLocalAddress,
      transport_failure_reason: upstreamFailure,
      request_attempt_count: request === undefined ? undefined : BigInt(request.facts.attempts),
      cx_pool_ready_duration: request && duration(request.facts.startedAtMs, request.facts.upstreamStartedAtMs),
    }),
  node: (_, { node }) => node,
  metadata: ({ request }) => ({ filter_metadata: metadataOf(request?.metadata) }),
  filter_state: ({ connection, ...facts }, { peers }) =>
    present({
      "io.istio.peer_principal": connection.peerPrincipal,
      "io.istio.local_principal": connection.localPrincipal,
      "io.istio.connect_authority": connection.authority,
      downstream_peer: connection.downstreamPeer && peerRecord(connection.downstreamPeer),
      upstream_peer: record(upstreamPeer(hostOfFacts({ connection, ...facts }), peers)),
    }),
  xds: (facts) => {
    const host = hostOfFacts(facts);
    return present({
      cluster_name: facts.upstreamCluster === "" ? undefined : facts.upstreamCluster,
      cluster_metadata: host && {
        filter_metadata: { istio: { config: host.cluster.spec.source, services: services(host.cluster.spec.service) } },
      },
      route_name: facts.routeName === "" ? undefined : facts.routeName,
      route_metadata: facts.request && {
        filter_metadata: { istio: { config: facts.request.route()?.source ?? "" } },
      },
      filter_chain_name: facts.chainName,
      listener_direction: 1n,
      node: undefined,
    });
  },
  downstream_peer: ({ connection }) => record(connection.downstreamPeer),
  upstream_peer: (facts, { peers }) => record(upstreamPeer(hostOfFacts(facts), peers)),
};

/** Those that a text may read. One too many costs a little; the evaluator knows what is meant. */
export function namesOf(text: string): readonly string[] {
  return Object.keys(ATTRIBUTES).filter((name) => new RegExp(`(?<![\\w.])${name}\\b`).test(text));
}

function record(peer: Parameters<typeof peerRecord>[0] | undefined): Readonly<Record<string, string>> | undefined {
  return peer && peerRecord(peer);
}

function services(
  service: { readonly host: string; readonly name: string; readonly namespace: string } | undefined,
): unknown[] {
  return service === undefined ? [] : [{ ...service }];
}

/** `has()` is about what is there: an attribute without a value is none. */
function present(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function fieldMap(fields: readonly string[], more: Readonly<Record<string, string>>): Record<string, string> {
  const map: Record<string, string> = Object.create(null);
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i];
    map[name] = map[name] === undefined ? fields[i + 1] : `${map[name]},${fields[i + 1]}`;
  }
  return { ...map, ...more };
}

/** Numbers of JSON are doubles in CEL, which is what they are here. */
function metadataOf(metadata: ReadonlyMap<string, Readonly<Record<string, unknown>>> | undefined): object {
  return Object.fromEntries(metadata ?? []);
}

function timestamp(wallMs: number): Timestamp {
  return timestampFromMs(Math.floor(wallMs));
}

function duration(fromMs: number | undefined, toMs: number | undefined): Duration | undefined {
  if (fromMs === undefined || toMs === undefined) return undefined;
  const nanos = Math.max(0, Math.round((toMs - fromMs) * 1e6));
  return create(DurationSchema, { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 });
}

function port(shown: string): bigint | undefined {
  const found = /:(\d+)$/.exec(shown)?.[1];
  return found === undefined || withoutPort(shown) === "" ? undefined : BigInt(found);
}
