/**
 * A node of the lab: a network namespace, its objects in the API server, a node agent for tests, and one ambit ztunnel of some build,
 * with the files and the environment that Istio's chart gives it.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { httpOver, type HttpRequest, type HttpResponse } from "../../e2e/support/http.ts";
import type { ConfigDump } from "../../e2e/support/mesh.ts";
import { parseMetrics, type Sample, type Traffic, traffic } from "../../e2e/support/metrics.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { ZtunnelProcess } from "../../e2e/support/ztunnel_process.ts";
import { ZdsServer } from "../../support/zds_server.ts";
import { ambitOf, type Build } from "./builds.ts";
import { ISTIOD_NAME, ISTIOD_PORT, SYSTEM_NAMESPACE } from "./control_plane.ts";
import type { IstiodLab } from "./lab.ts";
import { KUBELET_PORT, type NodeFacts, nodeObject, ztunnelPodObject } from "./objects.ts";
import type { LabPod } from "./pod.ts";
import { Program } from "./program.ts";

export type { ConfigDump };
/** Undefined: not set, though the chart sets it. */
type Environment = Readonly<Record<string, string | undefined>>;

/** From the start of the process to the first pod that is served. */
const START_TIMEOUT_MS = 30_000;
const KNOWN_TIMEOUT_MS = 20_000;
const AGENT_SOCKET = "var/run/ztunnel/ztunnel.sock";

export class LabNode {
  readonly lab: IstiodLab;
  readonly build: Build;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly namespaceFd: number;
  /** Stands for the root of ztunnel's file system: its relative paths begin here. */
  readonly directory: string;
  /** The node agent; replace it by another on the same path to restart it. */
  agent: ZdsServer;
  /** The one that runs now, or ran last. */
  ztunnel!: ZtunnelProcess;
  env: Environment = {};

  /** Where the process runs; differs from the name for the second ztunnel of a node. */
  readonly place: string;
  readonly podName: string;

  private constructor(lab: IstiodLab, build: Build, facts: NodeFacts, place: string, agent?: ZdsServer) {
    this.lab = lab;
    this.build = build;
    this.name = facts.name;
    this.addresses = facts.addresses;
    this.place = place;
    this.podName = `ztunnel-${place}`;
    this.directory = join(lab.directory, "nodes", place);
    this.namespaceFd = lab.sandbox.openNetns({ node: place });
    this.agent = agent ?? ZdsServer.start(join(this.directory, AGENT_SOCKET));
  }

  /** Makes everything but the ztunnel. The namespace is there already. */
  static async create(lab: IstiodLab, build: Build, facts: NodeFacts): Promise<LabNode> {
    await lab.plane.api.apply(nodeObject(facts));
    return LabNode.#create(lab, build, facts, facts.name);
  }

  /**
   * The same node once more, for a second ztunnel beside the first, as in an upgrade: a pod of its own, so that its own ports do not meet
   * the first one's, with the same node agent and host directory.
   */
  static createTwin(original: LabNode, place: string, addresses: readonly string[]): Promise<LabNode> {
    const { lab, build, name, agent } = original;
    return LabNode.#create(lab, build, { name, addresses }, place, agent);
  }

  static async #create(
    lab: IstiodLab,
    build: Build,
    facts: NodeFacts,
    place: string,
    agent?: ZdsServer,
  ): Promise<LabNode> {
    const directory = join(lab.directory, "nodes", place);
    for (const path of ["var/run/secrets/istio", "var/run/secrets/tokens", "var/run/ztunnel"]) {
      await mkdir(join(directory, path), { recursive: true });
    }
    const node = new LabNode(lab, build, facts, place, agent);
    await lab.plane.api.apply(ztunnelPodObject(node.podName, facts.name, node.ip));
    await node.writeToken();
    await writeFile(join(directory, "var/run/secrets/istio/root-cert.pem"), await lab.rootCertificate());
    return node;
  }

  get ip(): string {
    return this.addresses[0]!;
  }

  get agentPath(): string {
    return this.agent.path;
  }

  /** The same sockets of a test can be put into a node as into a pod. */
  get mesh(): { readonly lab: IstiodLab["lab"] } {
    return this.lab;
  }

  /** A fresh token, as the kubelet writes one from time to time. */
  async writeToken(): Promise<void> {
    const { api } = this.lab.plane;
    const pod = await api.get(ztunnelPodObject(this.podName, this.name, this.ip));
    const { name, uid } = pod.metadata;
    const token = await api.createToken(SYSTEM_NAMESPACE, "ztunnel", { name, uid: uid! });
    await writeFile(join(this.directory, "var/run/secrets/tokens/istio-token"), token);
  }

  /** Starts a ztunnel and waits until it is ready and has the agent's snapshot. */
  async start(env: Environment = this.env): Promise<void> {
    await this.launch(env);
    await this.ready();
    await this.agent.connected(1, START_TIMEOUT_MS);
  }

  /** Starts a ztunnel. */
  async launch(env: Environment = this.env): Promise<void> {
    this.env = env;
    const { sandbox, plane } = this.lab;
    const place = { podName: this.podName, nodeName: this.name, ip: this.ip, socket: this.agentPath };
    const full: Environment = { ...ztunnelEnvironment({ istiodIp: plane.ip, ...place }), ...env };
    const set = Object.entries(full).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const command = [...ambitOf(this.build), "proxy", "ztunnel"];
    this.ztunnel = await ZtunnelProcess.start(sandbox, this.place, Object.fromEntries(set), command, this.directory);
  }

  /** Waits for `/healthz/ready`. */
  async ready(timeoutMs = START_TIMEOUT_MS): Promise<void> {
    await eventually(async () => {
      if (!this.ztunnel.running) throw new Error(`the ztunnel of ${this.name} ended:\n${this.lastWords()}`);
      const { status, body } = await this.http(15021, "/healthz/ready");
      if (status !== 200) throw new Error(`${this.name}: ${status} ${body.trim()}\n${this.lastWords()}`);
    }, timeoutMs);
  }

  /** Asks the process to end, and waits. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    if (this.ztunnel?.running) this.ztunnel.kill(signal);
    await this.ztunnel?.exit(40_000);
  }

  /** A pod of this node is there: told to the ztunnel, resolves with its ack. */
  async addPod(pod: LabPod): Promise<void> {
    await this.agent.addPod(this.agentPod(pod));
  }

  agentPod({ uid, name, namespace, serviceAccount, namespaceFd }: LabPod) {
    return { uid, name, namespace, serviceAccount, netns: `/proc/self/fd/${namespaceFd}` };
  }

  /** Asks one of ztunnel's own HTTP servers, on the node's loopback. */
  async http(port: number, path: string, request?: HttpRequest): Promise<HttpResponse> {
    return httpOver(await this.lab.lab.connect(this.namespaceFd, "127.0.0.1", port), path, request);
  }

  async metrics(): Promise<Sample[]> {
    return parseMetrics((await this.http(15020, "/metrics")).body);
  }

  /** The sum of the samples of one family that have all of `labels`. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const has = (sample: Sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    return (await this.metrics()).filter((sample) => sample.name === name && has(sample))
      .reduce((sum, { value }) => sum + value, 0);
  }

  async traffic(labels: Readonly<Record<string, string>>): Promise<Traffic> {
    return traffic(await this.metrics(), labels);
  }

  async configDump(): Promise<MeshDump> {
    return JSON.parse((await this.http(15000, "/config_dump")).body);
  }

  /** Waits until its copy of the mesh satisfies `test`, which says what is missing, or undefined. */
  async knows(test: (dump: MeshDump) => string | undefined, timeoutMs = KNOWN_TIMEOUT_MS): Promise<MeshDump> {
    return await eventually(async () => {
      const dump = await this.configDump();
      const missing = test(dump);
      if (missing !== undefined) throw new Error(`the ztunnel of ${this.name}: ${missing}\n${this.lastWords()}`);
      return dump;
    }, timeoutMs);
  }

  lastWords(): string {
    return this.ztunnel.lines.slice(-12).join("\n");
  }

  /** The port-forward half of a kubelet, for istioctl. */
  async startKubelet(): Promise<Program> {
    const { plane, sandbox, binaries } = this.lab;
    const certificate = `kubelet-${this.name}`;
    await plane.pki.issue(certificate, `/O=system:nodes/CN=system:node:${this.name}`, `IP:${this.ip}`);
    const program = await Program.start(sandbox, {
      name: certificate,
      command: [
        binaries.kubelet,
        `-listen=:${KUBELET_PORT}`,
        `-cert=${plane.pki.path(`${certificate}.crt`)}`,
        `-key=${plane.pki.path(`${certificate}.key`)}`,
      ],
      place: { node: this.name },
      workingDirectory: this.directory,
      logPath: join(this.lab.directory, "log", `${certificate}.log`),
    });
    await program.ready(async () => {
      (await this.lab.lab.connect(this.namespaceFd, "127.0.0.1", KUBELET_PORT)).close();
      return true;
    }, START_TIMEOUT_MS);
    return program;
  }

  async close(): Promise<void> {
    await this.stop();
    this.agent.stop();
    closeDescriptor(this.namespaceFd);
    await writeFile(join(this.lab.directory, "log", `${this.podName}.log`), this.ztunnel?.lines.join("\n") ?? "");
  }
}

export interface ZtunnelPlace {
  readonly istiodIp: string;
  readonly podName: string;
  readonly nodeName: string;
  readonly ip: string;
  /** The agent's, a path of the lab instead of the host's. */
  readonly socket: string;
}

/** What the chart gives a ztunnel, with istiod's address in the place of its name. */
export function ztunnelEnvironment({ istiodIp, podName, nodeName, ip, socket }: ZtunnelPlace): Record<string, string> {
  const istiod = `https://${istiodIp}:${ISTIOD_PORT}`;
  return {
    CA_ADDRESS: istiod,
    XDS_ADDRESS: istiod,
    ALT_XDS_HOSTNAME: ISTIOD_NAME,
    ALT_CA_HOSTNAME: ISTIOD_NAME,
    RUST_LOG: "info",
    RUST_BACKTRACE: "1",
    ISTIO_META_CLUSTER_ID: "Kubernetes",
    ISTIO_META_ENABLE_HBONE: "true",
    ISTIO_META_ISTIO_VERSION: "1.31.0",
    INPOD_ENABLED: "true",
    TERMINATION_GRACE_PERIOD_SECONDS: "30",
    POD_NAME: podName,
    POD_NAMESPACE: SYSTEM_NAMESPACE,
    NODE_NAME: nodeName,
    INSTANCE_IP: ip,
    SERVICE_ACCOUNT: "ztunnel",
    INPOD_UDS: socket,
    ZTUNNEL_WORKER_THREADS: "2",
    TMPDIR: "/tmp",
  };
}

/** The part of `/config_dump` that says what the ztunnel has from istiod. */
export interface MeshDump extends ConfigDump {
  readonly workloads: readonly DumpedWorkload[];
  readonly services: readonly DumpedService[];
  readonly policies: readonly { readonly name: string; readonly namespace: string; readonly scope: string }[];
}

export interface DumpedWorkload {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly protocol: string;
  readonly workloadIps?: readonly string[];
  readonly waypoint?: { readonly destination: string; readonly hboneMtlsPort?: number };
  readonly applicationTunnel?: { readonly protocol: string; readonly port?: number };
  readonly authorizationPolicies?: readonly string[];
  readonly network?: string;
  readonly networkGateway?: { readonly destination: string };
  readonly hostname?: string;
  readonly status: string;
}

export interface DumpedService {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly string[];
  readonly endpoints: Readonly<Record<string, unknown>>;
  readonly waypoint?: { readonly destination: string };
}

export const ADDRESS_URL = "type.googleapis.com/istio.workload.Address";

/** Of workloads and services, what istiod has sent to the ztunnel that runs now. */
export function addressBytes(node: LabNode): Promise<number> {
  return node.metric("istio_xds_message_bytes_total", { url: ADDRESS_URL });
}
