/** The commands of Envoy's formats, as functions made once. An unknown command is text that was always empty: a log must not end a service. */
import { first } from "../http/fields.ts";
import { headerValue } from "../match/head.ts";
import { valueAt } from "../match/metadata.ts";
import { withoutQuery } from "../match/path.ts";
import type { Evaluate, EvaluateValue, FormatEnvironment, Maker } from "./environment.ts";
import type { FormatFacts } from "./facts.ts";
import { grpcStatus } from "./grpc_status.ts";
import { filterState } from "./filter_state.ts";
import { hostOfFacts, withoutPort, withPort } from "./peer.ts";
import { formatTime } from "./time.ts";

export type { Evaluate, FormatEnvironment } from "./environment.ts";

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

const nothing: Evaluate = () => undefined;

function metadataValue(argument: string): EvaluateValue {
  const [namespace, ...path] = argument.split(":");
  return ({ request }) => request === undefined ? undefined : valueAt(request.metadata, namespace, path);
}

const dynamicMetadata: Maker = (argument) => {
  const find = metadataValue(argument);
  return (facts) => {
    const value = find(facts);
    if (value === undefined) return undefined;
    return typeof value === "string" ? value : JSON.stringify(value);
  };
};

/** `METADATA(CLUSTER:…)` and its kin: of them only what Istio writes there. */
const istioMetadata: Maker = (argument) => {
  const [kind, namespace, ...path] = argument.split(":");
  if (kind === "DYNAMIC") return dynamicMetadata([namespace, ...path].join(":"), undefined as never);
  if (kind !== "CLUSTER" || namespace !== "istio" || path.join(":") !== "config") return nothing;
  return (facts) => hostOfFacts(facts)?.cluster.spec.source;
};

/** A client says what it likes in its hello; a line of the log stays one line, and its quotes stay whole. */
const serverName: Evaluate = ({ connection: { sni } }) => sni === "" ? sni : sni.replace(/[^A-Za-z0-9._*:-]/g, "_");

/** Words of a text that a log has between spaces; most have none. */
const underscored = (text: string): string => text.includes(" ") ? text.replaceAll(" ", "_") : text;

const upstreamEnd = (which: "host" | "local", part: "all" | "ip" | "port"): Evaluate => (facts) => {
  // An endpoint behind a tunnel is shown with its way, and has no address of its own in it.
  const address = which === "host" ? facts.upstreamHost : facts.upstreamLocalAddress;
  if (address === "" || part === "all") return address;
  if (part === "ip") return address.startsWith("envoy://") ? address : withoutPort(address);
  return /:(\d+)$/.exec(address)?.[1];
};

/** From one moment of a request to another, as `COMMON_DURATION(from:to:unit)` names them. */
const MOMENTS: Readonly<Record<string, (facts: FormatFacts) => number | undefined>> = {
  DS_RX_BEG: ({ request, connection }) => request?.facts.startedAtMs ?? connection.startedAtMs,
  DS_RX_END: ({ request }) => request?.facts.requestEndedAtMs,
  US_CX_BEG: ({ request }) => request?.facts.upstreamStartedAtMs,
  US_CX_END: ({ request }) => request?.facts.upstreamStartedAtMs,
  US_TX_BEG: ({ request }) => request?.facts.upstreamStartedAtMs,
  US_TX_END: ({ request }) => request?.facts.upstreamRequestEndedAtMs,
  US_RX_BEG: ({ request }) => request?.facts.upstreamRespondedAtMs,
  US_RX_END: ({ request, endedAtMs }) => request?.facts.upstreamRespondedAtMs === undefined ? undefined : endedAtMs,
  DS_TX_BEG: ({ request }) => request?.facts.responseStartedAtMs,
  DS_TX_END: ({ endedAtMs }) => endedAtMs,
};
const UNITS: Readonly<Record<string, number>> = { ms: 1, us: 1e3, ns: 1e6 };

const commonDuration: Maker = (argument) => {
  const [from = "", to = "", unit = "ms"] = argument.split(":");
  const [begin, end] = [MOMENTS[from], MOMENTS[to]];
  const factor = UNITS[unit];
  if (begin === undefined || end === undefined || factor === undefined) return nothing;
  return (facts) => {
    const [beginMs, endMs] = [begin(facts), end(facts)];
    if (beginMs === undefined || endMs === undefined || endMs < beginMs) return undefined;
    return String(Math.round((endMs - beginMs) * factor));
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
  RESPONSE_CODE_DETAILS: constant(({ request }) => request && underscored(request.details)),
  RESPONSE_FLAGS: constant(({ responseFlags }) => responseFlags === "" ? "-" : responseFlags),
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
  COMMON_DURATION: commonDuration,
  REQUEST_HEADERS_BYTES: constant(({ request }) => request && String(request.exchange.bytes.headReceived)),
  RESPONSE_HEADERS_BYTES: constant(({ request }) => request && String(request.exchange.bytes.headSent)),
  BYTES_RECEIVED: constant(({ bytesReceived }) => String(bytesReceived)),
  BYTES_SENT: constant(({ bytesSent }) => String(bytesSent)),
  UPSTREAM_HOST: constant(({ upstreamHost }) => upstreamHost),
  UPSTREAM_CLUSTER: constant(({ upstreamCluster }) => upstreamCluster),
  UPSTREAM_CLUSTER_RAW: constant(({ upstreamCluster }) => upstreamCluster),
  UPSTREAM_HOST_NAME: constant(upstreamEnd("host", "all")),
  UPSTREAM_HOST_NAME_WITHOUT_PORT: constant(upstreamEnd("host", "ip")),
  UPSTREAM_REMOTE_ADDRESS: constant(upstreamEnd("host", "all")),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: constant(upstreamEnd("host", "ip")),
  UPSTREAM_REMOTE_PORT: constant(upstreamEnd("host", "port")),
  UPSTREAM_LOCAL_ADDRESS: constant(upstreamEnd("local", "all")),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: constant(upstreamEnd("local", "ip")),
  UPSTREAM_LOCAL_PORT: constant(upstreamEnd("local", "port")),
  UPSTREAM_TRANSPORT_FAILURE_REASON: constant(({ upstreamFailure }) => underscored(upstreamFailure)),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: constant(({ request }) => String(request?.facts.attempts ?? 0)),
  DOWNSTREAM_REMOTE_ADDRESS: constant(({ connection }) => withPort(connection.source)),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: constant(({ connection }) => connection.source.ip),
  DOWNSTREAM_REMOTE_PORT: constant(({ connection }) => String(connection.source.port)),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: constant(({ connection }) => withPort(connection.source)),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: constant(({ connection }) => connection.source.ip),
  DOWNSTREAM_DIRECT_REMOTE_PORT: constant(({ connection }) => String(connection.source.port)),
  DOWNSTREAM_LOCAL_ADDRESS: constant(({ connection }) => withPort(connection.destination)),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: constant(({ connection }) => connection.destination.ip),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS: constant(({ connection }) => withPort(connection.destination)),
  DOWNSTREAM_LOCAL_PORT: constant(({ connection }) => String(connection.destination.port)),
  DOWNSTREAM_PEER_URI_SAN: constant(({ connection }) => connection.peerPrincipal),
  DOWNSTREAM_LOCAL_URI_SAN: constant(({ connection }) => connection.localPrincipal),
  REQUESTED_SERVER_NAME: constant(serverName),
  CONNECTION_ID: constant(({ connection }) => String(connection.id)),
  STREAM_ID: constant(({ request }) => request && String(request.id)),
  HOSTNAME: (_, { hostname }) => () => hostname,
  ENVIRONMENT: (argument, { env }) => () => env(argument),
  FILTER_STATE: filterState,
  DYNAMIC_METADATA: dynamicMetadata,
  METADATA: istioMetadata,
  CEL: (argument, { cel }) => cel(argument) ?? nothing,
  TYPED_CEL: (argument, { cel }) => cel(argument) ?? nothing,
  TRACE_ID: (_, { traceId }) => ({ request }) => request && traceId?.(request),
  GRPC_STATUS: grpcStatus,
  GRPC_STATUS_NUMBER: (_, environment) => grpcStatus("NUMBER", environment),
};

/** Those whose value is a number: in JSON it stays one. */
export const NUMBERS: ReadonlySet<string> = new Set([
  "RESPONSE_CODE",
  "DURATION",
  "COMMON_DURATION",
  "REQUEST_DURATION",
  "RESPONSE_DURATION",
  "RESPONSE_TX_DURATION",
  "DOWNSTREAM_HANDSHAKE_DURATION",
  "BYTES_RECEIVED",
  "BYTES_SENT",
  "REQUEST_HEADERS_BYTES",
  "RESPONSE_HEADERS_BYTES",
  "UPSTREAM_REQUEST_ATTEMPT_COUNT",
  "DOWNSTREAM_REMOTE_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_PORT",
  "DOWNSTREAM_LOCAL_PORT",
  "UPSTREAM_REMOTE_PORT",
  "UPSTREAM_LOCAL_PORT",
  "UPSTREAM_HOST_PORT",
  "CONNECTION_ID",
  "GRPC_STATUS_NUMBER",
]);

/** The type that a command's value has in JSON; undefined: text. */
export function makeValue(
  command: string,
  argument: string,
  environment: FormatEnvironment,
): EvaluateValue | undefined {
  if (command === "TYPED_CEL") return environment.celValue?.(argument);
  if (command === "DYNAMIC_METADATA") return metadataValue(argument);
  if (command === "METADATA" && argument.startsWith("DYNAMIC:")) {
    return metadataValue(argument.slice("DYNAMIC:".length));
  }
  const evaluate = makeCommand(command, argument, environment);
  if (evaluate === undefined || !(NUMBERS.has(command) || (command === "GRPC_STATUS" && argument === "NUMBER"))) {
    return evaluate;
  }
  return (facts) => {
    const text = evaluate(facts);
    return text === undefined || text === "" ? undefined : Number(text);
  };
}

/** Undefined for one that nobody knows here. */
export function makeCommand(command: string, argument: string, environment: FormatEnvironment): Evaluate | undefined {
  return Object.hasOwn(COMMANDS, command) ? COMMANDS[command](argument, environment) : undefined;
}
