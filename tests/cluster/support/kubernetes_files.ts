/** Configuration of containerd, kubelet, kube-proxy and the pods' network. */
import type { ClusterPki } from "../../istiod/support/pki.ts";
import { PAUSE_IMAGE } from "./images.ts";
import type { Node } from "./node.ts";

export const POD_RANGE = "10.230.0.0/16";
/** In the range of services. */
export const DNS_IP = "10.97.0.10";
export const CONTAINERD = "/run/containerd/containerd.sock";

export function containerdConfig(node: Node): string {
  const absent = [
    "snapshotter.v1.btrfs",
    "snapshotter.v1.zfs",
    "snapshotter.v1.aufs",
    "snapshotter.v1.devmapper",
    "internal.v1.opt",
  ];
  return `
version = 2
root = "${node.path("containerd")}"
state = "/run/containerd"
disabled_plugins = [${absent.map((name) => `"io.containerd.${name}"`).join(", ")}]
[grpc]
  address = "${CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  # A container of CI has no CAP_SYS_RESOURCE: a score cannot be lowered.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${node.path("cni/bin")}"
    conf_dir = "${node.path("cni/net.d")}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`;
}

export const BRIDGE = {
  cniVersion: "1.0.0",
  name: "lab",
  plugins: [
    {
      type: "bridge",
      bridge: "cni0",
      isDefaultGateway: true,
      hairpinMode: true,
      ipam: { type: "host-local", dataDir: "/run/cni-ipam", ranges: [[{ subnet: POD_RANGE }]] },
    },
    { type: "portmap", capabilities: { portMappings: true } },
  ],
};

export function kubeletConfig(node: Node, pki: ClusterPki): unknown {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: pki.path("ca.crt") },
    },
    authorization: { mode: "Webhook" },
    cgroupDriver: "cgroupfs",
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${CONTAINERD}`,
    clusterDNS: [DNS_IP],
    clusterDomain: "cluster.local",
    resolvConf: node.path("resolv.conf"),
    // How full somebody's disk is is no matter of a test.
    evictionHard: { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    imageGCHighThresholdPercent: 100,
    makeIPTablesUtilChains: false,
    volumePluginDir: node.path("kubelet/volume-plugins"),
    podLogsDir: "/var/log/pods",
    // What a test waits for.
    syncFrequency: "10s",
    nodeStatusUpdateFrequency: "5s",
  };
}

export function proxyConfig(kubeconfig: string): unknown {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "iptables",
    clusterCIDR: POD_RANGE,
    clientConnection: { kubeconfig },
    // The whole machine's: left as they are.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
  };
}
