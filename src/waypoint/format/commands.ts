/** The commands of Envoy's formats, as functions made once. An unknown command is text that was always empty: a log must not end a service. */
import { first } from "../http/fields.ts";
import { headerValue } from "../match/head.ts";
import { valueAt } from "../match/metadata.ts";
import { withoutQuery } from "../match/path.ts";
import type { FormatFacts } from "./facts.ts";
import { formatTime } from "./time.ts";

/** Undefined or empty: nothing to say. */
export type Evaluate = (facts: FormatFacts) => string | undefined;

type Maker = (argument: string, environment: FormatEnvironment) => Evaluate;

export interface FormatEnvironment {
  readonly hostname: string;
  readonly env: (name: string) => string | undefined;
  /** Compiles a CEL expression; undefined where it cannot be. */
  readonly cel: (expression: string) => Evaluate | undefined;
}

const withPort = ({ ip, port }: { readonly ip: string; readonly port: number }): string =>
  ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;

const between = (from: number | undefined, to: number | undefined): string | undefined =>
  from === undefined || to === undefined ? undefined : String(Math.max(0, Math.round(to - from)));

/** `A?B`: the first that is there. Names in lower case. */
function alternatives(argument: string): readonly string[] {
  return argument.split("?").map((name) => name.trim().toLowerCase()).filter((name) => name !== "");
}

const requestHeader: Maker = (argument) => {
  const names = alternatives(argument);
  return ({ request }) => {
    if (request === undefined) return undefined;
    for (const name of names) {
      // What it was when it came: a rewrite is the route's affair.
      const value = name === ":path"
        ? request.original.path
        : name === ":authority"
        ? request.original.authority
        : name === ":method"
        ? request.original.method
        : headerValue(request.head, name);
      if (value !== undefined && value !== "") return value;
    }
    return undefined;
  };
};

const responseHeader = (which: "responseHeaders" | "responseTrailers"): Maker => (argument) => {
  const names = alternatives(argument);
  return ({ request }) => {
    if (request === undefined) return undefined;
    for (const name of names) {
      const value = name === ":status" ? String(request.facts.status) : first(request.facts[which], name);
      if (value !== undefined && value !== "") return value;
    }
    return undefined;
  };
};

const constant = (evaluate: Evaluate): Maker => () => evaluate;

/** Envoy's names for what `ConnectionInfo` holds. */
const FILTER_STATE: Readonly<Record<string, Evaluate>> = {
  "io.istio.peer_principal": ({ connection }) => connection.peerPrincipal,
  "io.istio.local_principal": ({ connection }) => connection.localPrincipal,
  "io.istio.connect_authority": ({ connection }) => connection.authority,
  "envoy.filters.listener.original_dst.local_ip": ({ connection }) => withPort(connection.destination),
  "envoy.filters.listener.original_dst.remote_ip": ({ connection }) => withPort(connection.source),
};

const PEER_FIELDS: Readonly<Record<string, (facts: FormatFacts) => string | undefined>> = {
  workload: ({ connection }) => connection.downstreamPeer?.workloadName,
  namespace: ({ connection }) => connection.downstreamPeer?.namespace,
  cluster: ({ connection }) => connection.downstreamPeer?.clusterId,
  service: ({ connection }) => connection.downstreamPeer?.canonicalName,
  revision: ({ connection }) => connection.downstreamPeer?.canonicalRevision,
  app: ({ connection }) => connection.downstreamPeer?.canonicalName,
  version: ({ connection }) => connection.downstreamPeer?.canonicalRevision,
  type: ({ connection }) => connection.downstreamPeer?.workloadType,
  name: ({ connection }) => connection.downstreamPeer?.name,
};

const filterState: Maker = (argument) => {
  const [key, form = "", field = ""] = argument.split(":");
  if (key === "downstream_peer" && form === "FIELD") return PEER_FIELDS[field] ?? (() => undefined);
  return FILTER_STATE[key] ?? (() => undefined);
};

const dynamicMetadata: Maker = (argument) => {
  const [namespace, ...path] = argument.split(":");
  return ({ request }) => {
    const value = request === undefined ? undefined : valueAt(request.metadata, namespace, path);
    if (value === undefined) return undefined;
    return typeof value === "string" ? value : JSON.stringify(value);
  };
};

export const COMMANDS: Readonly<Record<string, Maker>> = {
  REQ: requestHeader,
  RESP: responseHeader("responseHeaders"),
  TRAILER: responseHeader("responseTrailers"),
  REQ_WITHOUT_QUERY: (argument) => {
    const evaluate = requestHeader(argument, undefined as never);
    return (facts) => {
      const value = evaluate(facts);
      return value === undefined ? undefined : withoutQuery(value);
    };
  },
  PROTOCOL: constant(({ request }) => request && `HTTP/${request.head.version}`),
  RESPONSE_CODE: constant(({ request }) => String(request?.facts.status ?? 0)),
  RESPONSE_CODE_DETAILS: constant(({ request }) => request?.details.replaceAll(" ", "_")),
  RESPONSE_FLAGS: constant(({ responseFlags }) => responseFlags),
  CONNECTION_TERMINATION_DETAILS: constant(({ connectionTermination }) => connectionTermination),
  ROUTE_NAME: constant(({ routeName }) => routeName),
  FILTER_CHAIN_NAME: constant(({ chainName }) => chainName),
  START_TIME: (argument) => ({ startedAtWallMs }) => formatTime(startedAtWallMs, argument),
  DURATION: constant(({ request, connection, endedAtMs, nowMs }) =>
    between(request?.facts.startedAtMs ?? connection.startedAtMs, endedAtMs ?? nowMs)
  ),
  REQUEST_DURATION: constant(({ request }) =>
    request && between(request.facts.startedAtMs, request.facts.requestEndedAtMs)
  ),
  RESPONSE_DURATION: constant(({ request }) =>
    request && between(request.facts.startedAtMs, request.facts.upstreamRespondedAtMs)
  ),
  RESPONSE_TX_DURATION: constant(({ request, endedAtMs }) =>
    request && between(request.facts.upstreamRespondedAtMs, endedAtMs)
  ),
  BYTES_RECEIVED: constant(({ bytesReceived }) => String(bytesReceived)),
  BYTES_SENT: constant(({ bytesSent }) => String(bytesSent)),
  UPSTREAM_HOST: constant(({ upstreamHost }) => upstreamHost),
  UPSTREAM_CLUSTER: constant(({ upstreamCluster }) => upstreamCluster),
  UPSTREAM_CLUSTER_RAW: constant(({ upstreamCluster }) => upstreamCluster),
  UPSTREAM_LOCAL_ADDRESS: constant(({ upstreamLocalAddress }) => upstreamLocalAddress),
  UPSTREAM_TRANSPORT_FAILURE_REASON: constant(({ upstreamFailure }) => upstreamFailure.replaceAll(" ", "_")),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: constant(({ request }) => String(request?.facts.attempts ?? 0)),
  DOWNSTREAM_REMOTE_ADDRESS: constant(({ connection }) => withPort(connection.source)),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: constant(({ connection }) => connection.source.ip),
  DOWNSTREAM_REMOTE_PORT: constant(({ connection }) => String(connection.source.port)),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: constant(({ connection }) => withPort(connection.source)),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: constant(({ connection }) => connection.source.ip),
  DOWNSTREAM_LOCAL_ADDRESS: constant(({ connection }) => withPort(connection.destination)),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: constant(({ connection }) => connection.destination.ip),
  DOWNSTREAM_LOCAL_PORT: constant(({ connection }) => String(connection.destination.port)),
  DOWNSTREAM_PEER_URI_SAN: constant(({ connection }) => connection.peerPrincipal),
  DOWNSTREAM_LOCAL_URI_SAN: constant(({ connection }) => connection.localPrincipal),
  REQUESTED_SERVER_NAME: constant(({ connection }) => connection.sni),
  CONNECTION_ID: constant(({ connection }) => String(connection.id)),
  STREAM_ID: constant(({ request }) => request && String(request.id)),
  HOSTNAME: (_, { hostname }) => () => hostname,
  ENVIRONMENT: (argument, { env }) => () => env(argument),
  FILTER_STATE: filterState,
  DYNAMIC_METADATA: dynamicMetadata,
  METADATA: (argument) => {
    const [kind, ...rest] = argument.split(":");
    return kind === "DYNAMIC" ? dynamicMetadata(rest.join(":"), undefined as never) : () => undefined;
  },
  CEL: (argument, { cel }) => cel(argument) ?? (() => undefined),
};
