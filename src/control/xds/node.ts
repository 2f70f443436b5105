/** The node that xDS requests name: reference ztunnel, section 3.2. istiod keys on the type in the id. */
import type { ZtunnelConfig } from "../../cli/config.ts";
import type { NodeInfo } from "./protocol.ts";

/** Where the pod's address is not known. */
const NO_ADDRESS = "1.1.1.1";

type NodeConfig = Pick<
  ZtunnelConfig,
  "instanceIp" | "podName" | "podNamespace" | "nodeName" | "proxyMetadata" | "proxyMetadataJson"
>;

/** Typed metadata (`ISTIO_METAJSON_*`) wins over plain, and both over what is made here. */
export function describeNode(config: NodeConfig): NodeInfo {
  const { podName, podNamespace } = config;
  const ip = config.instanceIp === "" ? NO_ADDRESS : config.instanceIp;
  return {
    id: `ztunnel~${ip}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    metadata: {
      NAME: podName,
      NAMESPACE: podNamespace,
      INSTANCE_IPS: ip,
      NODE_NAME: config.nodeName ?? "",
      ...config.proxyMetadata,
      ...config.proxyMetadataJson,
    },
  };
}
