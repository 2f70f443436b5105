/**
 * A Kubernetes node of the lab: process, mount and network namespaces with a file system of its own (node_root.sh), a bridge for its
 * pods, and its objects in the API server. On it run an agent (agent.ts), a ztunnel (ztunnel.ts) and pods (pod.ts).
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ROOT } from "../../../scripts/support/tools.ts";
import type { ToolResult } from "../../../src/cni/redirection/run_in_netns.ts";
import { runTool } from "../../../src/local/run_tool.ts";
import { openNamespace } from "../../../src/platform/netns.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { onlyChild } from "../../e2e/support/sandbox.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { ambitOf, type Build } from "../../istiod/support/builds.ts";
import { nodeObject } from "../../istiod/support/objects.ts";
import { Agent, type AgentOptions } from "./agent.ts";
import type { CniLab } from "./lab.ts";
import { connectNode, podSubnets } from "./network.ts";
import { clusterRoleBindingObject, daemonSetObject } from "./objects.ts";
import type { FakeZtunnel } from "./fake_ztunnel.ts";
import { CniPod, type PodWish } from "./pod.ts";
import { Ztunnel } from "./ztunnel.ts";

/** As a container image has it; the network tools are in sbin. */
export const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cni/bin";
const DEBIAN_PLUGINS = "/usr/lib/cni";
/** The name of the network in the node's configuration. */
export const NETWORK = "lab";

/** What is in the agent's image. */
export interface Software {
  /** The program, and its arguments before those of the chart. */
  readonly agent: readonly string[];
  /** The plugin: a program that is copied, or a command that is started by a script of that name. */
  readonly plugin: string | readonly string[];
}

export function softwareOf(build: Build): Software {
  const ambit = ambitOf(build);
  return { agent: [...ambit, "install-cni"], plugin: build === "compiled" ? ambit[0]! : ambit };
}

export class CniNode {
  readonly namespaceFd: number;
  /** Files that tests look at: `bin`, `net.d`, `run` (istio-cni), `ztunnel`, `image`, `serviceaccount`. */
  readonly directory: string;
  readonly pods: CniPod[] = [];
  /** Ztunnels in the hands of the scenario. */
  readonly fakes: FakeZtunnel[] = [];
  /** The namespace that the chart is installed in for this node: DaemonSet and service account of its own. */
  readonly agentNamespace: string;
  agent!: Agent;
  ztunnel!: Ztunnel;
  /** Its first process, as the test process sees it. */
  #pid = 0;

  private constructor(
    readonly lab: CniLab,
    /** Of its ztunnel, and by default of its agent. */
    readonly build: Build,
    readonly software: Software,
    readonly name: string,
    readonly number: number,
    readonly addresses: readonly string[],
  ) {
    this.directory = join(lab.directory, "n", name);
    this.agentNamespace = `cni-${name}`;
    this.namespaceFd = lab.sandbox.openNetns({ node: name });
  }

  static async create(
    lab: CniLab,
    build: Build,
    name: string,
    number: number,
    software = softwareOf(build),
  ): Promise<CniNode> {
    const addresses = [`10.240.0.${number + 9}`, `fd00:240::${(number + 9).toString(16)}`];
    await lab.sandbox.add({ nodes: [{ name, addresses }], pods: [], captured: [] });
    const node = new CniNode(lab, build, software, name, number, addresses);
    await node.#startNamespaces();
    await connectNode(node);
    await node.#install();
    const { api } = lab.plane;
    await api.apply(nodeObject({ name, addresses }));
    await lab.addNamespace(node.agentNamespace, undefined);
    await lab.addServiceAccount(node.agentNamespace, "istio-cni");
    await api.apply(clusterRoleBindingObject(node.agentNamespace));
    await api.apply(daemonSetObject(node.agentNamespace));
    node.agent = await Agent.create(node);
    node.ztunnel = await Ztunnel.create(node);
    return node;
  }

  get ip(): string {
    return this.addresses[0]!;
  }

  get mesh(): { readonly lab: CniLab["sockets"] } {
    return { lab: this.lab.sockets };
  }

  get bridgeIp(): string {
    return `10.244.${this.number * 16}.1`;
  }

  /** Where a file of the node is to this process. */
  path(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }

  /** A command on the node, in its own network or in that of a file in /run/netns. */
  command(command: readonly string[], netns?: string): readonly string[] {
    const net = netns === undefined ? "--net" : `--net=${this.netnsPath(netns)}`;
    return ["nsenter", `--target=${this.#pid}`, "--mount", "--pid", net, "--", ...command];
  }

  netnsPath(name: string): string {
    return this.path(`/run/netns/${name}`);
  }

  /** Runs a command to its end, with the PATH of a node. */
  run(command: readonly string[], netns?: string, input?: string): Promise<ToolResult> {
    return runTool(this.command(["env", `PATH=${PATH}`, ...command], netns), input);
  }

  /** The same; rejects unless it succeeds. Resolves with what it printed. */
  async exec(command: readonly string[], netns?: string, input?: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, netns, input);
    if (code === 0) return stdout;
    throw new Error(
      `${this.name}: "${command.join(" ")}" failed (${code ?? "killed"}): ${stderr.trim() || stdout.trim()}`,
    );
  }

  shell(script: string, netns?: string): Promise<string> {
    return this.exec(["sh", "-c", script], netns);
  }

  /** Runs the node's chain of plugins on a namespace, as a container runtime does. */
  cni(command: "add" | "check" | "del", netns: string, args: Readonly<Record<string, string>>): Promise<ToolResult> {
    const pairs = Object.entries({ IgnoreUnknown: "1", ...args }).map(([key, value]) => `${key}=${value}`);
    return this.run([
      "env",
      "NETCONFPATH=/etc/cni/net.d",
      `CNI_PATH=/opt/cni/bin:${DEBIAN_PLUGINS}`,
      `CNI_ARGS=${pairs.join(";")}`,
      this.lab.binaries.cnitool,
      command,
      NETWORK,
      `/var/run/netns/${netns}`,
    ]);
  }

  /** The first plugin of the chain alone. Resolves with its result, and the pod has its addresses. */
  async addByBridge(pod: CniPod): Promise<unknown> {
    const { cniVersion, name, plugins } = this.primaryConfig;
    const env = [
      "CNI_COMMAND=ADD",
      "CNI_IFNAME=eth0",
      `CNI_PATH=${DEBIAN_PLUGINS}`,
      `CNI_CONTAINERID=${pod.containerId}`,
      `CNI_NETNS=/var/run/netns/${pod.netns}`,
    ];
    const plugin = `${DEBIAN_PLUGINS}/bridge`;
    const result = JSON.parse(
      await this.exec(["env", ...env, plugin], undefined, JSON.stringify({ ...plugins[0], cniVersion, name })),
    ) as { readonly ips: readonly { readonly address: string }[] };
    pod.addresses = result.ips.map(({ address }) => address.slice(0, address.indexOf("/")));
    return result;
  }

  /** A file of the node's network configuration. */
  conf(name: string): string {
    return readFileSync(join(this.directory, "net.d", name), "utf8");
  }

  conflist(
    name = "10-lab.conflist",
  ): { readonly name: string; readonly plugins: readonly { readonly type: string }[] } {
    return JSON.parse(this.conf(name));
  }

  get primaryConfig() {
    return {
      cniVersion: "1.0.0",
      name: NETWORK,
      plugins: [{
        type: "bridge",
        bridge: "cni0",
        isGateway: true,
        ipam: {
          type: "host-local",
          ranges: podSubnets(this.number).map((subnet) => [{ subnet }]),
          routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
        },
      }],
    };
  }

  /** Starts an agent and waits until it is ready. */
  async startAgent(options: AgentOptions = {}): Promise<Agent> {
    await this.agent.start(options);
    return this.agent;
  }

  /** Makes pods one after the other, as a kubelet does when there is time. Rejects when a sandbox cannot be made. */
  async addPods(...wishes: readonly PodWish[]): Promise<CniPod[]> {
    const made: CniPod[] = [];
    for (const wish of wishes) made.push(await this.addPod(wish));
    return made;
  }

  async addPod(wish: PodWish): Promise<CniPod> {
    const pod = await CniPod.bind(this, wish);
    await pod.run();
    return pod;
  }

  async close(): Promise<void> {
    for (const pod of [...this.pods]) pod.forget();
    await this.agent?.program?.end().catch(() => {});
    await this.ztunnel?.stop().catch(() => {});
    this.ztunnel?.close();
    closeDescriptor(this.namespaceFd);
  }

  async #startNamespaces(): Promise<void> {
    mkdirSync(this.directory, { recursive: true });
    const script = fileURLToPath(new URL("./node_root.sh", import.meta.url));
    const { pod } = this.lab.binaries;
    const { plugin, agent } = this.software;
    const programs = [pod, agent[0]!, typeof plugin === "string" ? plugin : plugin[0]!].map(dirname);
    const shown = [ROOT, homedir(), ...programs, this.lab.directory];
    const inside = [
      "unshare",
      "--mount",
      "--pid",
      "--fork",
      "--kill-child",
      "--propagation=private",
      "--",
      "sh",
      script,
    ];
    const [file = "", ...args] = this.lab.sandbox.command([...inside, this.directory, pod, ...shown], {
      node: this.name,
    });
    const env = { PATH, HOME: homedir() };
    const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"], env });
    this.#pid = await onlyChild(await onlyChild(child.pid!));
    // The last thing the script does.
    await eventually(() => {
      if (!existsSync(this.path("/opt/kubelet")) || readFileSync(`/proc/${this.#pid}/comm`, "utf8") !== "init\n") {
        throw new Error(`the node ${this.name} did not start`);
      }
    });
  }

  /** The files of the node and of the agent's image. */
  async #install(): Promise<void> {
    mkdirSync(join(this.directory, "image"));
    this.resetFiles();
    const plugin = join(this.directory, "image/istio-cni");
    const source = this.software.plugin;
    if (typeof source === "string") await copyFile(source, plugin);
    else writeFileSync(plugin, `#!/bin/sh\nexec ${source.join(" ")} "$@"\n`, { mode: 0o755 });
  }

  /** What the network's own installer would have left. */
  resetFiles(): void {
    for (const directory of ["bin", "net.d"]) {
      for (const name of readdirSync(join(this.directory, directory))) {
        rmSync(join(this.directory, directory, name), { recursive: true });
      }
    }
    writeFileSync(join(this.directory, "net.d/10-lab.conflist"), JSON.stringify(this.primaryConfig, undefined, 2));
  }

  /** A descriptor of a namespace in /run/netns; the caller closes it. */
  openNetns(name: string): number {
    const fd = openNamespace(this.netnsPath(name));
    if (fd < 0) throw new Error(`${this.name}: cannot open the namespace ${name}: error ${-fd}`);
    return fd;
  }
}
