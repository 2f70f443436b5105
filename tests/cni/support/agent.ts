/**
 * The node agent of a node: one ambit process with the files, the environment and the capabilities that the chart's DaemonSet gives
 * it, in a container of its own (agent_root.sh) and, as by default, in a pod network of its own.
 */
import { randomUUID, sign } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { AgentReport, PodReport } from "../../../src/cni/agent/status.ts";
import type { ToolResult } from "../../../src/cni/redirection/run_in_netns.ts";
import { runTool } from "../../../src/local/run_tool.ts";
import { httpOver, type HttpResponse } from "../../e2e/support/http.ts";
import { parseMetrics } from "../../e2e/support/metrics.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { API_SERVICE_IP } from "./network.ts";
import { type CniNode, PATH } from "./node.ts";
import { type Exit, NodeProgram } from "./node_program.ts";
import { CNI_NAME, DAEMON_SET, daemonSetObject } from "./objects.ts";
import { CniPod } from "./pod.ts";

/** Undefined: not set, though the chart sets it. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface AgentOptions {
  readonly env?: Environment;
  readonly args?: readonly string[];
  /** `ambient.shareHostNetworkNamespace` of the chart. */
  readonly hostNetwork?: boolean;
  /** Mounts below the container's root that are read-only. */
  readonly readOnly?: readonly string[];
  /** Mounts that have next to no room. */
  readonly tiny?: readonly string[];
}

/** What the chart adds after it dropped all. */
const CAPABILITIES = "-all,+net_admin,+net_raw,+sys_ptrace,+sys_admin,+dac_override";
const START_TIMEOUT_MS = 30_000;
/** On SIGTERM the chart gives it this long. */
const GRACE_MS = 30_000;

const SELECTORS = `- podSelector:
    matchLabels:
      istio.io/dataplane-mode: ambient
- podSelector:
    matchExpressions:
    - key: istio.io/dataplane-mode
      operator: NotIn
      values: [none]
  namespaceSelector:
    matchLabels:
      istio.io/dataplane-mode: ambient
`;

export class Agent {
  /** The one that runs now, or ran last. */
  program: NodeProgram | undefined;
  /** It does not run as by default. */
  changed = false;
  #starts = 0;
  #namespaceFd = -1;

  private constructor(readonly node: CniNode, readonly pod: CniPod) {}

  /** The agent's pod: made by the node's chain before there is an agent. */
  static async create(node: CniNode): Promise<Agent> {
    const pod = await CniPod.bind(node, {
      name: `${DAEMON_SET}-${randomUUID().slice(0, 5)}`,
      namespace: node.agentNamespace,
      serviceAccount: CNI_NAME,
      labels: { "k8s-app": DAEMON_SET, "istio.io/dataplane-mode": "none" },
      idle: true,
    });
    await pod.run();
    const agent = new Agent(node, pod);
    await agent.writeToken();
    return agent;
  }

  /** A fresh token (or this one), put in place as a kubelet does: by the swap of a symbolic link. */
  async writeToken(token?: string): Promise<void> {
    const { plane } = this.node.lab;
    token ??= await plane.api.createToken(this.node.agentNamespace, CNI_NAME, this.pod);
    const directory = join(this.node.directory, "serviceaccount");
    const version = `..${randomUUID()}`;
    mkdirSync(join(directory, version), { recursive: true });
    writeFileSync(join(directory, version, "token"), token);
    writeFileSync(join(directory, version, "ca.crt"), readFileSync(plane.pki.path("ca.crt")));
    writeFileSync(join(directory, version, "namespace"), this.node.agentNamespace);
    symlinkSync(version, join(directory, "..data_tmp"));
    renameSync(join(directory, "..data_tmp"), join(directory, "..data"));
    for (const name of ["token", "ca.crt", "namespace"]) {
      try {
        symlinkSync(join("..data", name), join(directory, name));
      } catch {
        // There since the first time.
      }
    }
  }

  /** A token as the API server gives them, but for the time: signed by its key, and over. */
  async expiredToken(): Promise<string> {
    const { plane } = this.node.lab;
    const [head, body] = (await plane.api.createToken(this.node.agentNamespace, CNI_NAME, this.pod)).split(".");
    const claims = JSON.parse(Buffer.from(body!, "base64url").toString()) as Record<string, unknown>;
    const nowS = Math.floor(Date.now() / 1000);
    const past = { ...claims, iat: nowS - 7200, nbf: nowS - 7200, exp: nowS - 3600 };
    const signed = `${head}.${Buffer.from(JSON.stringify(past)).toString("base64url")}`;
    const key = { key: readFileSync(plane.pki.path("sa.key")), dsaEncoding: "ieee-p1363" } as const;
    return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
  }

  /** Starts the process. */
  async launch(options: AgentOptions = {}): Promise<void> {
    const { env, args, hostNetwork, readOnly, tiny } = options;
    const { node } = this;
    this.changed = Object.keys(options).length > 0;
    const script = fileURLToPath(new URL("./agent_root.sh", import.meta.url));
    const full: Environment = {
      PATH,
      HOME: homedir(),
      NO_COLOR: "1",
      READ_ONLY: readOnly?.join(" "),
      TINY: tiny?.join(" "),
      // What the kubelet sets.
      KUBERNETES_SERVICE_HOST: API_SERVICE_IP,
      KUBERNETES_SERVICE_PORT: "443",
      HOSTNAME: this.pod.name,
      // The chart's ConfigMap.
      CURRENT_AGENT_VERSION: "1.31.0",
      AMBIENT_ENABLED: "true",
      AMBIENT_ENABLEMENT_SELECTOR: SELECTORS,
      AMBIENT_DNS_CAPTURE: "true",
      AMBIENT_IPV6: "true",
      AMBIENT_RECONCILE_POD_RULES_ON_STARTUP: "true",
      ENABLE_AMBIENT_DETECTION_RETRY: "false",
      ISTIO_OWNED_CNI_CONFIG: "false",
      CHAINED_CNI_PLUGIN: "true",
      EXCLUDE_NAMESPACES: "kube-system",
      REPAIR_ENABLED: "true",
      REPAIR_LABEL_PODS: "false",
      REPAIR_DELETE_PODS: "false",
      REPAIR_REPAIR_PODS: "true",
      REPAIR_INIT_CONTAINER_NAME: "istio-validation",
      REPAIR_BROKEN_POD_LABEL_KEY: "cni.istio.io/uninitialized",
      REPAIR_BROKEN_POD_LABEL_VALUE: "true",
      NATIVE_NFTABLES: "false",
      // The DaemonSet's own.
      REPAIR_NODE_NAME: node.name,
      REPAIR_RUN_AS_DAEMON: "true",
      REPAIR_SIDECAR_ANNOTATION: "sidecar.istio.io/status",
      ALLOW_SWITCH_TO_HOST_NS: hostNetwork ? undefined : "true",
      NODE_NAME: node.name,
      POD_NAME: this.pod.name,
      POD_NAMESPACE: node.agentNamespace,
      ...env,
    };
    const set = Object.entries(full).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=slave", "--", "sh", script];
    const command = [...node.software.agent, ...(args ?? ["--log_output_level=default:info"])];
    this.#namespaceFd = hostNetwork ? node.namespaceFd : this.pod.namespaceFd;
    this.program = await NodeProgram.start({
      name: `agent of ${node.name}`,
      command: node.command(
        [...inside, node.directory, CAPABILITIES, ...command],
        hostNetwork ? undefined : this.pod.netns,
      ),
      logPath: join(node.lab.directory, "log", `agent-${node.name}-${++this.#starts}.log`),
      env: Object.fromEntries(set),
      forks: 2,
    });
  }

  get running(): boolean {
    return this.program?.running ?? false;
  }

  get log(): string {
    return this.program!.log;
  }

  /** Asks one of its HTTP servers. */
  async http(port: number, path: string): Promise<HttpResponse> {
    return httpOver(await this.node.lab.sockets.connect(this.#namespaceFd, "127.0.0.1", port), path);
  }

  /** Waits for `/readyz`. */
  async ready(timeoutMs = START_TIMEOUT_MS): Promise<void> {
    await eventually(async () => {
      if (!this.running) throw new Error(`the agent ended; ${this.program!.lastWords}`);
      const { status } = await this.http(8000, "/readyz").catch((error) => {
        throw new Error(`${error}; ${this.program!.lastWords}`);
      });
      if (status !== 200) throw new Error(`readyz: ${status}; ${this.program!.lastWords}`);
    }, timeoutMs);
  }

  async isReady(): Promise<boolean> {
    return await this.http(8000, "/readyz").then(({ status }) => status === 200, () => false);
  }

  /** The sum of the samples of one family that have all of `labels`. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const samples = parseMetrics((await this.http(15014, "/metrics")).body);
    return samples.filter((sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
    ).reduce((sum, { value }) => sum + value, 0);
  }

  /** In order: as the kubelet ends a container. */
  async stop(): Promise<Exit> {
    return await this.program!.end("SIGTERM", GRACE_MS);
  }

  /** At once, without a chance to clean up. */
  async kill(): Promise<void> {
    if (this.running) await this.program!.end("SIGKILL");
  }

  /** The end of the agent when it is uninstalled: the DaemonSet is gone first. */
  async uninstall(): Promise<Exit> {
    const { api } = this.node.lab.plane;
    const daemonSet = daemonSetObject(this.node.agentNamespace);
    await api.delete(daemonSet);
    try {
      return await this.stop();
    } finally {
      await api.apply(daemonSet);
    }
  }

  /** What it says of every pod of the node. */
  async debugPods(): Promise<AgentReport> {
    const { status, body } = await this.http(9876, "/debug/pods");
    if (status !== 200) throw new Error(`/debug/pods: ${status} ${body}`);
    return JSON.parse(body) as AgentReport;
  }

  /** What it says of one. */
  async debugPod({ uid }: CniPod): Promise<PodReport> {
    const found = (await this.debugPods()).pods.find((pod) => pod.uid === uid);
    if (found === undefined) throw new Error(`/debug/pods does not list ${uid}`);
    return found;
  }

  /** Runs a command in its container. */
  inside(command: readonly string[]): Promise<ToolResult> {
    const { pid } = this.program!;
    return runTool([
      "nsenter",
      `--target=${pid}`,
      "--mount",
      "--pid",
      "--net",
      "--",
      "env",
      `PATH=${PATH}`,
      ...command,
    ]);
  }

  /** In order, then once more with other settings. */
  async restart(options: AgentOptions = {}): Promise<void> {
    if (this.running) await this.stop();
    await this.start(options);
  }

  /** Resolves when the agent is ready and has told the node's ztunnel, if one runs, which pods there are. */
  async start(options: AgentOptions = {}): Promise<void> {
    await this.launch(options);
    await this.ready();
    if (this.node.ztunnel?.running) await this.connected();
  }

  /** Waits until that many ztunnels are connected. */
  async connected(count = 1): Promise<void> {
    await eventually(async () => {
      const found = await this.metric("ztunnel_connected");
      if (found !== count) throw new Error(`${found} ztunnels are connected, not ${count}; ${this.program!.lastWords}`);
    }, START_TIMEOUT_MS);
  }
}
