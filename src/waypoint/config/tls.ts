/** Transport sockets of clusters, and the client certificates that CONNECT asks for. */
import type { TransportSocket } from "../../gen/envoy/config/core/v3/base_pb.ts";
import { ProxyProtocolConfig_Version as ProxyVersion } from "../../gen/envoy/config/core/v3/proxy_protocol_pb.ts";
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification as ChainVerification,
  CertificateValidationContextSchema,
  type SubjectAltNameMatcher,
  SubjectAltNameMatcher_SanType as SanType,
  TlsParameters_TlsProtocol as Version,
  TlsParametersSchema,
} from "../../gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import type { SdsSecretConfig } from "../../gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import {
  type CommonTlsContext,
  CommonTlsContextSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { InternalUpstreamTransportSchema } from "../../gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.ts";
import { ProxyProtocolUpstreamTransportSchema } from "../../gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.ts";
import { RawBufferSchema } from "../../gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import type { TextMatch, TransportSpec, UpstreamTlsSpec } from "../spec/mod.ts";
import { expectUnderstood, typeOf, understand, unpack, Unsupported } from "./guard.ts";
import { textMatch } from "./matchers.ts";

/** What a waypoint's own certificate and the mesh's roots are called. */
export const WORKLOAD_CERTIFICATE = "default";
export const MESH_ROOTS = "ROOTCA";

const RAW: TransportSpec = { kind: "raw" };
const RAW_BUFFER = understand(RawBufferSchema, "");
const INTERNAL = understand(InternalUpstreamTransportSchema, "transport_socket", "passthrough_metadata");
const PROXY = understand(ProxyProtocolUpstreamTransportSchema, "config transport_socket");
const UPSTREAM = understand(
  UpstreamTlsContextSchema,
  "common_tls_context sni",
  "max_session_keys enforce_rsa_key_usage",
);

/** How the bytes of a request travel, whatever tunnel is around them. @throws Unsupported */
export function transport(socket: TransportSocket | undefined): TransportSpec {
  const any = socket?.configType.value;
  switch (typeOf(any)) {
    case "":
      if (socket !== undefined) throw new Unsupported("a transport socket without a configuration is not supported");
      return RAW;
    case RawBufferSchema.typeName:
      unpack(any, RAW_BUFFER);
      return RAW;
    case InternalUpstreamTransportSchema.typeName:
      return transport(unpack(any, INTERNAL).transportSocket);
    case ProxyProtocolUpstreamTransportSchema.typeName: {
      const { config, transportSocket } = unpack(any, PROXY);
      return {
        kind: "proxy protocol",
        version: config?.version === ProxyVersion.V2 ? 2 : 1,
        inner: transport(transportSocket),
      };
    }
    case UpstreamTlsContextSchema.typeName: {
      const { commonTlsContext, sni } = unpack(any, UPSTREAM);
      return { kind: "tls", tls: upstreamTls(commonTlsContext, sni) };
    }
    default:
      throw new Unsupported(`the transport socket ${typeOf(any)} is not supported`);
  }
}

const COMMON = understand(
  CommonTlsContextSchema,
  "tls_params tls_certificate_sds_secret_configs validation_context validation_context_sds_secret_config combined_validation_context alpn_protocols",
);
const PARAMS = understand(
  TlsParametersSchema,
  "tls_minimum_protocol_version tls_maximum_protocol_version",
  "cipher_suites ecdh_curves signature_algorithms",
);

function upstreamTls(common: CommonTlsContext | undefined, sni: string): UpstreamTlsSpec {
  if (common !== undefined) expectUnderstood(COMMON, common);
  const { context, trust } = validation(common);
  const params = common?.tlsParams;
  if (params !== undefined) expectUnderstood(PARAMS, params);
  return {
    sni,
    autoSni: false,
    autoSan: false,
    sans: context === undefined ? [] : names(context),
    trust,
    certificate: secretName(common?.tlsCertificateSdsSecretConfigs ?? []),
    alpn: common?.alpnProtocols ?? [],
    minVersion: version(params?.tlsMinimumProtocolVersion, "1.2"),
    maxVersion: version(params?.tlsMaximumProtocolVersion, "1.3"),
    insecureSkipVerify: context?.trustChainVerification === ChainVerification.ACCEPT_UNTRUSTED || trust === undefined,
  };
}

function version(value: Version | undefined, fallback: "1.2" | "1.3"): "1.2" | "1.3" {
  switch (value) {
    case Version.TLSv1_3:
      return "1.3";
    case Version.TLSv1_2:
      return "1.2";
    case Version.TLSv1_0:
    case Version.TLSv1_1:
      // Asked for as a least version it is satisfied by a later one; a mesh never asks for it as the most.
      return "1.2";
    default:
      return fallback;
  }
}

const CONTEXT = understand(
  CertificateValidationContextSchema,
  "match_typed_subject_alt_names match_subject_alt_names trust_chain_verification",
);

function validation(common: CommonTlsContext | undefined): {
  readonly context: CertificateValidationContext | undefined;
  readonly trust: string | undefined;
} {
  const type = common?.validationContextType;
  switch (type?.case) {
    case undefined:
      return { context: undefined, trust: undefined };
    case "validationContextSdsSecretConfig":
      return { context: undefined, trust: type.value.name };
    case "validationContext":
      expectUnderstood(CONTEXT, type.value);
      return { context: type.value, trust: undefined };
    case "combinedValidationContext": {
      const { defaultValidationContext: context, validationContextSdsSecretConfig: secret } = type.value;
      if (context !== undefined) expectUnderstood(CONTEXT, context);
      return { context, trust: secret?.name };
    }
    default:
      throw new Unsupported(`a validation context by ${type?.case} is not supported`);
  }
}

const SAN_TYPES: Readonly<Record<SanType, UpstreamTlsSpec["sans"][number]["type"] | undefined>> = {
  [SanType.SAN_TYPE_UNSPECIFIED]: undefined,
  [SanType.EMAIL]: "email",
  [SanType.DNS]: "dns",
  [SanType.URI]: "uri",
  [SanType.IP_ADDRESS]: "ip",
  [SanType.OTHER_NAME]: undefined,
};

function names(context: CertificateValidationContext): UpstreamTlsSpec["sans"] {
  return [
    ...context.matchTypedSubjectAltNames.map(typedName),
    ...context.matchSubjectAltNames.map((matcher) => ({ type: "any" as const, match: textMatch(matcher) })),
  ];
}

function typedName({ sanType, matcher }: SubjectAltNameMatcher): UpstreamTlsSpec["sans"][number] {
  const type = SAN_TYPES[sanType];
  if (type === undefined) throw new Unsupported(`subject alternative names of type ${sanType} are not supported`);
  return { type, match: textMatch(matcher) };
}

function secretName(configs: readonly SdsSecretConfig[]): string | undefined {
  if (configs.length > 1) throw new Unsupported("several certificates are not supported");
  return configs[0]?.name;
}

const DOWNSTREAM = understand(
  DownstreamTlsContextSchema,
  "common_tls_context require_client_certificate",
  "disable_stateless_session_resumption disable_stateful_session_resumption",
);

/** Which URI names a client of port 15008 may have. @throws Unsupported for TLS that is not a mesh's */
export function terminateTls(socket: TransportSocket | undefined): { readonly peerNames: readonly TextMatch[] } {
  const { commonTlsContext: common, requireClientCertificate } = unpack(socket?.configType.value, DOWNSTREAM);
  if (common === undefined || requireClientCertificate !== true) {
    throw new Unsupported("a listener that takes clients without a certificate is not supported");
  }
  expectUnderstood(COMMON, common);
  const { context, trust } = validation(common);
  const certificate = secretName(common.tlsCertificateSdsSecretConfigs);
  if (trust !== MESH_ROOTS || certificate !== WORKLOAD_CERTIFICATE) {
    throw new Unsupported("a listener with certificates other than the mesh's is not supported");
  }
  if (context?.trustChainVerification === ChainVerification.ACCEPT_UNTRUSTED) {
    throw new Unsupported("a listener that takes clients of another mesh is not supported");
  }
  const sans = context === undefined ? [] : names(context);
  for (const { type } of sans) {
    if (type !== "uri" && type !== "any") throw new Unsupported(`clients by their ${type} names are not supported`);
  }
  return { peerNames: sans.map(({ match }) => match) };
}
