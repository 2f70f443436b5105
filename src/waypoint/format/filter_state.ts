/** `FILTER_STATE(key:form:field)`: Envoy's names for what `ConnectionInfo` and the peers hold. */
import type { WorkloadSpec } from "../spec/mod.ts";
import type { Evaluate, FormatEnvironment, Maker } from "./environment.ts";
import type { FormatFacts } from "./facts.ts";
import { hostOfFacts, PEER_FIELDS, peerRecord, upstreamPeer, withPort } from "./peer.ts";

const VALUES: Readonly<Record<string, Evaluate>> = {
  "io.istio.peer_principal": ({ connection }) => connection.peerPrincipal,
  "io.istio.local_principal": ({ connection }) => connection.localPrincipal,
  "io.istio.connect_authority": ({ connection }) => connection.authority,
  "envoy.filters.listener.original_dst.local_ip": ({ connection }) => withPort(connection.destination),
  "envoy.filters.listener.original_dst.remote_ip": ({ connection }) => withPort(connection.source),
  "envoy.upstream.dynamic_host": ({ upstreamHost }) => upstreamHost,
};

/** `_obj` is the same thing in Envoy as an object whose fields can be read. */
function peerOf(
  key: string,
  { peers }: FormatEnvironment,
): ((facts: FormatFacts) => WorkloadSpec | undefined) | undefined {
  switch (key) {
    case "downstream_peer":
    case "downstream_peer_obj":
      return ({ connection }) => connection.downstreamPeer;
    case "upstream_peer":
    case "upstream_peer_obj":
      return (facts) => upstreamPeer(hostOfFacts(facts), peers);
  }
  return undefined;
}

export const filterState: Maker = (argument, environment) => {
  const [key, form = "", field = ""] = argument.split(":");
  const find = peerOf(key, environment);
  if (find === undefined) return VALUES[key] ?? (() => undefined);
  if (form !== "FIELD") {
    return (facts) => {
      const peer = find(facts);
      return peer && JSON.stringify(peerRecord(peer));
    };
  }
  const read = Object.hasOwn(PEER_FIELDS, field) ? PEER_FIELDS[field] : undefined;
  if (read === undefined) return () => undefined;
  return (facts) => {
    const peer = find(facts);
    return peer && read(peer);
  };
};
