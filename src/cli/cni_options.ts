/**
 * The node agent's options: every flag and variable of Istio's install-cni under its name and with its default
 * (reference cni.md 1.4), and those of ambit's own, which begin with AMBIT_.
 */
import { flagLike, listLike, numberLike, optionalTextLike, textLike, withoutEffect } from "./cni_values.ts";
import type { RoleHelp } from "./help.ts";
import { istioLogLevel, logAsJson } from "./log_options.ts";
import { boolean, custom, duration, optionalText } from "./options.ts";
import { canonicalIp } from "../mesh/ip.ts";

const path = { metavar: "PATH" };
const MAX_PORT = 65_535;

function ipAddress(env: string, fallback: string, version: 4 | 6, help: string) {
  return custom({ env, metavar: "IP" }, fallback, fallback, help, (value) => {
    if (value === "") return fallback;
    const ip = canonicalIp(value);
    if (ip === undefined || ip.includes(":") !== (version === 6)) throw new Error(`must be an IPv${version} address`);
    return ip;
  });
}

/** Options of installing the plugin. */
const installOptions = {
  netDir: textLike({ env: "MOUNTED_CNI_NET_DIR", ...path }, "/host/etc/cni/net.d", "The node's CNI configuration."),
  confName: optionalTextLike(
    { env: "CNI_CONF_NAME", metavar: "FILE" },
    "The file to put the plugin into.",
    "first valid",
  ),
  chained: flagLike(
    { env: "CHAINED_CNI_PLUGIN" },
    true,
    "Put the plugin behind those of the primary file; false: into a file of its own.",
  ),
  runDir: textLike(
    { env: "CNI_AGENT_RUN_DIR", ...path },
    "/var/run/istio-cni",
    "Sockets, the plugin's kubeconfig and the agent's notes.",
  ),
  ownedConfig: flagLike(
    { env: "ISTIO_OWNED_CNI_CONFIG" },
    false,
    "Write the chain into a file of our own that survives the agent, and leave the primary file alone.",
  ),
  ownedConfigFile: optionalTextLike(
    // Istio's chart sets the second name, which Istio's own agent does not read.
    { env: ["ISTIO_OWNED_CNI_CONFIG_FILENAME", "ISTIO_OWNED_CNI_CONF_FILENAME"], metavar: "FILE" },
    "Name of that file; must sort before the primary one.",
    "02-istio-cni.conflist",
  ),
  kubeconfigMode: numberLike(
    { env: "KUBECONFIG_MODE", metavar: "MODE" },
    0o600,
    "0600",
    0,
    0o777,
    "Mode of the kubeconfig.",
  ),
  confGroupRead: flagLike({ env: "CNI_CONF_GROUP_READ" }, false, "New configuration files are 0640 rather than 0600."),
  kubeCaFile: optionalTextLike(
    { env: "KUBE_CA_FILE", ...path },
    "CA of the API server.",
    "ca.crt of the service account",
  ),
  skipTlsVerify: flagLike({ env: "SKIP_TLS_VERIFY" }, false, "Do not verify the API server."),
  hostRoot: custom(
    { env: "AMBIT_HOST_ROOT", ...path },
    "/host",
    "/host",
    "Where the node's /proc, /var/run/netns and /opt/cni/bin are mounted; /: the agent sees the node's own files.",
    (value) => value.replace(/\/+$/, ""),
  ),
  binaryDir: optionalText(
    { env: "AMBIT_CNI_BIN_DIR", ...path },
    "Where the plugin is installed, instead of opt/cni/bin below the host root.",
  ),
  binarySource: optionalTextLike(
    { env: "AMBIT_CNI_BIN_SOURCE", ...path },
    "Folder whose files are installed.",
    "/opt/cni/bin",
  ),
  serviceAccountDir: textLike(
    { env: "AMBIT_SERVICE_ACCOUNT_DIR", ...path },
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "Token and CA of the own service account.",
  ),
  kubernetesHost: optionalTextLike({ env: "KUBERNETES_SERVICE_HOST", metavar: "HOST" }, "API server."),
  kubernetesPort: optionalTextLike({ env: "KUBERNETES_SERVICE_PORT", metavar: "PORT" }, "Port of the API server."),
  kubernetesProtocol: textLike({ env: "KUBERNETES_SERVICE_PROTOCOL" }, "https", "Protocol of the API server."),
  kubernetesNodeName: optionalTextLike(
    { env: "KUBERNETES_NODE_NAME", metavar: "NAME" },
    "Own node, when NODE_NAME is not set.",
    "host name",
  ),
} as const;

/** Options of the mesh. */
const ambientOptions = {
  ambientEnabled: flagLike({ env: "AMBIENT_ENABLED" }, false, "Capture the traffic of pods for ztunnel."),
  selectors: optionalTextLike(
    { env: "AMBIENT_ENABLEMENT_SELECTOR", metavar: "YAML" },
    "Which pods: a list of podSelector and namespaceSelector. Required with --ambient-enabled.",
  ),
  dnsCapture: flagLike({ env: "AMBIENT_DNS_CAPTURE" }, false, "Send the DNS queries of captured pods to ztunnel."),
  ipv6: flagLike({ env: "AMBIENT_IPV6" }, false, "Capture IPv6 too."),
  reconcileOnStartup: flagLike(
    { env: "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP" },
    false,
    "Bring the rules of captured pods up to date when the agent starts.",
  ),
  disableSafeUpgrade: flagLike(
    { env: "AMBIENT_DISABLE_SAFE_UPGRADE" },
    false,
    "Remove the plugin whenever the agent ends, not only when it is uninstalled.",
  ),
  detectionRetry: flagLike(
    { env: "ENABLE_AMBIENT_DETECTION_RETRY" },
    false,
    "The plugin waits up to 30 s for the API server, and refuses the pod without it.",
  ),
  nativeNftables: flagLike({ env: "NATIVE_NFTABLES" }, false, "Use nft rather than iptables."),
  forceIptablesBinary: custom<"legacy" | "nft" | undefined>(
    { env: "FORCE_IPTABLES_BINARY", metavar: "legacy|nft" },
    undefined,
    "what the node uses",
    "Which iptables.",
    (value) => {
      if (value === "") return undefined;
      if (value === "legacy" || value === "nft") return value;
      throw new Error("must be legacy, nft or empty");
    },
  ),
  excludedNamespaces: listLike({ env: "EXCLUDE_NAMESPACES" }, "Namespaces whose pods are left alone."),
  podNamespace: textLike({ env: "POD_NAMESPACE" }, "", "Namespace of the own pod."),
  podName: textLike({ env: "POD_NAME" }, "", "Own pod."),
  nodeName: optionalTextLike({ env: "NODE_NAME" }, "Own node.", "KUBERNETES_NODE_NAME"),
  systemNamespace: textLike({ env: "SYSTEM_NAMESPACE" }, "istio-system", "Where ztunnel lives."),
  revision: textLike({ env: "REVISION" }, "", "Revision of this installation."),
  probeIpv4: ipAddress("HOST_PROBE_SNAT_IP", "169.254.7.127", 4, "What kubelet's probes come from."),
  probeIpv6: ipAddress("HOST_PROBE_SNAT_IPV6", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff", 6, "The same for IPv6."),
  scopedXtablesLocking: flagLike(
    { env: "AMBIENT_USE_SCOPED_XTABLES_LOCKING" },
    true,
    "A lock of iptables for each pod rather than one for the node.",
  ),
  awsBranchEni: flagLike(
    { env: "AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE" },
    true,
    "Route kubelet's probes to pods with a branch ENI (AWS security groups for pods).",
  ),
  switchToHostNs: flagLike(
    { env: "ALLOW_SWITCH_TO_HOST_NS" },
    false,
    "Enter the node's network namespace for its rules; false: the agent runs in it.",
  ),
  ztunnelSocket: textLike(
    { env: "ZTUNNEL_UDS_ADDRESS", ...path },
    "/var/run/ztunnel/ztunnel.sock",
    "Where ztunnel connects to.",
  ),
  verifyIntervalMs: duration(
    { env: "AMBIT_CNI_VERIFY_INTERVAL" },
    60_000,
    "How often each captured pod is verified and repaired; 0: never. Longer if it would cost more than a twentieth of a CPU.",
  ),
  hostVerifyIntervalMs: duration(
    { env: "AMBIT_CNI_HOST_VERIFY_INTERVAL" },
    10_000,
    "How often the node's own rules and sets are verified and repaired; 0: never.",
  ),
} as const;

/** Of the repair controller for sidecars, which this version does not have; with it on, the agent says so. */
const repairOptions = {
  repairEnabled: flagLike({ env: "REPAIR_ENABLED" }, true, "Repair pods with sidecars. Without effect."),
  repairPods: flagLike({ env: "REPAIR_REPAIR_PODS" }, false, "Repair them in place. Without effect."),
  repairDelete: flagLike({ env: "REPAIR_DELETE_PODS" }, false, "Delete them. Without effect."),
  repairLabel: flagLike({ env: "REPAIR_LABEL_PODS" }, false, "Label them. Without effect."),
  repairNodeName: withoutEffect({ env: "REPAIR_NODE_NAME" }, "Node whose pods are repaired."),
  repairAnnotation: withoutEffect({ env: "REPAIR_SIDECAR_ANNOTATION" }, "Annotation of pods with a sidecar."),
  repairInit: withoutEffect({ env: "REPAIR_INIT_CONTAINER_NAME" }, "Init container that checks the rules."),
  repairMessage: withoutEffect({ env: "REPAIR_INIT_CONTAINER_TERMINATION_MESSAGE" }, "Its last words."),
  repairExitCode: withoutEffect({ env: "REPAIR_INIT_CONTAINER_EXIT_CODE" }, "Its exit code."),
  repairKey: withoutEffect({ env: "REPAIR_BROKEN_POD_LABEL_KEY" }, "Label of broken pods."),
  repairValue: withoutEffect({ env: "REPAIR_BROKEN_POD_LABEL_VALUE" }, "Its value."),
  repairLabels: withoutEffect({ env: "REPAIR_LABEL_SELECTORS" }, "Pods that are looked at."),
  repairFields: withoutEffect({ env: "REPAIR_FIELD_SELECTORS" }, "Pods that are looked at."),
} as const;

const servingOptions = {
  monitoringPort: numberLike(
    { env: "MONITORING_PORT", metavar: "PORT" },
    15_014,
    "15014",
    -MAX_PORT,
    MAX_PORT,
    "Metrics; 0 or less: none.",
  ),
  healthPort: numberLike(
    { env: "AMBIT_CNI_HEALTH_PORT", metavar: "PORT" },
    8000,
    "8000",
    1,
    MAX_PORT,
    "/healthz and /readyz.",
  ),
  ctrlzPort: numberLike(
    { flag: "ctrlz_port", flagAliases: ["ctrlz-port"], metavar: "PORT" },
    9876,
    "9876",
    0,
    MAX_PORT,
    "Log levels and /debug/pods; 0: none.",
  ),
  ctrlzAddress: textLike(
    { flag: "ctrlz_address", flagAliases: ["ctrlz-address"], metavar: "HOST" },
    "localhost",
    "Where that port listens; * is every address.",
  ),
  logLevel: istioLogLevel,
  logAsJson,
  logTarget: textLike(
    { flag: "log_target", flagAliases: ["log-target"], metavar: "stdout|stderr|PATH" },
    "stdout",
    "Where the log goes; repeatable.",
  ),
  logCaller: withoutEffect({ flag: "log_caller", flagAliases: ["log-caller"] }, "Scopes whose lines name the caller."),
  logStacktrace: withoutEffect(
    { flag: "log_stacktrace_level", flagAliases: ["log-stacktrace-level"] },
    "Level from which lines carry a stack.",
  ),
  logRotate: withoutEffect({ flag: "log_rotate", flagAliases: ["log-rotate"] }, "File that is rotated."),
  logRotateAge: withoutEffect({ flag: "log_rotate_max_age", flagAliases: ["log-rotate-max-age"] }, "Days it is kept."),
  logRotateSize: withoutEffect({ flag: "log_rotate_max_size", flagAliases: ["log-rotate-max-size"] }, "Its megabytes."),
  logRotateBackups: withoutEffect(
    { flag: "log_rotate_max_backups", flagAliases: ["log-rotate-max-backups"] },
    "How many are kept.",
  ),
  klog: withoutEffect({ flag: "vklog" }, "Level of the Kubernetes client's log."),
  oldLogLevel: withoutEffect({ env: "LOG_LEVEL" }, "Replaced by --log_output_level."),
  networkConfig: withoutEffect({ env: "CNI_NETWORK_CONFIG" }, "Template of the plugin's configuration."),
  networkConfigFile: withoutEffect({ env: "CNI_NETWORK_CONFIG_FILE" }, "File of that template."),
} as const;

export const cniOptions = { ...installOptions, ...ambientOptions, ...servingOptions, ...repairOptions } as const;

/** What `ambit cni status` takes. */
export const cniStatusOptions = {
  runDir: textLike(
    { env: "CNI_AGENT_RUN_DIR", ...path },
    "/var/run/istio-cni",
    "The agent's run directory: it is asked over its socket there.",
  ),
  namespace: optionalText({ flag: "namespace", metavar: "NAME" }, "Only pods of this namespace."),
  json: boolean({ flag: "json" }, false, "Print the answer as JSON."),
} as const;

export const CNI_STATUS_HELP: RoleHelp = {
  usage: "ambit cni status [flags]",
  summary:
    "Asks the node agent that runs here about every pod of the node: whether it belongs into the mesh and why, whether " +
    "its traffic is captured and why not, since when and by which rules. Exit code 0: every pod is as it should be; 1: some " +
    "are not; 2: wrong usage, or no agent answers.",
  table: cniStatusOptions,
};
