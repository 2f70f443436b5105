/**
 * A pod of the lab, made in the order of a kubelet and its runtime: an object that is bound, a network namespace, the chain of CNI
 * plugins, a process in a control group, a status. Its application is a real HTTP server; its clients are sockets of this process.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { httpOver } from "../../e2e/support/http.ts";
import type { Peer } from "../../e2e/support/peer.ts";
import { eventually, within } from "../../e2e/support/wait.ts";
import type { KubeObject } from "../../istiod/support/kube_api.ts";
import type { CniNode } from "./node.ts";
import { NodeProgram } from "./node_program.ts";
import { boundPodObject, type PodFacts, REDIRECTION, runningStatus } from "./objects.ts";

export interface PodWish extends Omit<PodFacts, "node"> {
  /** Ports of its HTTP server. Default: 8080. */
  readonly ports?: readonly number[];
  /** Nothing runs in it: an agent cannot find it by /proc. */
  readonly idle?: boolean;
  /** The IPv4 address that it must get. */
  readonly address?: string;
}

export const APP_PORT = 8080;
const EXCHANGE_TIMEOUT_MS = 5_000;

/** A plugin's refusal, as the runtime gets it. */
export class CniFailure extends Error {
  constructor(readonly pod: string, readonly text: string) {
    super(`${pod}: ${text}`);
  }
}

export class CniPod {
  uid = "";
  addresses: readonly string[] = [];
  /** Its file in /run/netns. */
  netns = "";
  namespaceFd = -1;
  app: NodeProgram | undefined;
  readonly containerId = randomBytes(32).toString("hex");

  private constructor(readonly node: CniNode, readonly wish: PodWish) {}

  /** The object, without anything on the node. */
  static async bind(node: CniNode, wish: PodWish): Promise<CniPod> {
    const { lab } = node;
    const pod = new CniPod(node, wish);
    await lab.addNamespace(wish.namespace, undefined);
    await lab.addServiceAccount(wish.namespace, wish.serviceAccount ?? wish.name);
    const made = await lab.plane.api.apply(pod.object);
    pod.uid = made.metadata.uid!;
    node.pods.push(pod);
    return pod;
  }

  get name(): string {
    return this.wish.name;
  }

  get namespace(): string {
    return this.wish.namespace;
  }

  get object(): KubeObject {
    return boundPodObject({ ...this.wish, node: this.node.name });
  }

  get identity(): string {
    return `spiffe://cluster.local/ns/${this.namespace}/sa/${this.wish.serviceAccount ?? this.name}`;
  }

  /** Of its network namespace. */
  get inode(): number {
    return statSync(this.node.netnsPath(this.netns)).ino;
  }

  get mesh() {
    return this.node.mesh;
  }

  get cniArgs(): Readonly<Record<string, string>> {
    return {
      K8S_POD_NAMESPACE: this.namespace,
      K8S_POD_NAME: this.name,
      K8S_POD_INFRA_CONTAINER_ID: this.containerId,
      K8S_POD_UID: this.uid,
      ...(this.wish.address === undefined ? {} : { IP: this.wish.address }),
    };
  }

  ip(family: "ipv4" | "ipv6" = "ipv4"): string {
    const address = this.addresses.find((address) => address.includes(":") === (family === "ipv6"));
    if (address === undefined) throw new Error(`${this.name} has no ${family} address`);
    return address;
  }

  /** Everything from the namespace to the status. */
  async run(): Promise<void> {
    await this.makeNamespace();
    await this.add();
    await this.startApp();
    await this.report();
  }

  async makeNamespace(): Promise<void> {
    this.netns = `cni-${randomUUID()}`;
    await this.node.shell(
      `touch /run/netns/${this.netns} && unshare --net=/run/netns/${this.netns} sh -c '` +
        "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; " +
        "ip link set lo up'",
    );
    this.namespaceFd = this.node.openNetns(this.netns);
  }

  /** ADD. On failure the runtime's answer is a CniFailure; namespace and addresses are taken back by {@link removeNamespace}. */
  async add(): Promise<void> {
    const { code, stdout, stderr } = await this.node.cni("add", this.netns, this.cniArgs);
    if (code !== 0) throw failureOf(this.name, stdout, stderr);
    const result = JSON.parse(stdout) as { ips?: { address: string }[]; ip4?: { ip: string }; ip6?: { ip: string } };
    this.addresses = (result.ips ?? []).map(({ address }) => address.slice(0, address.indexOf("/")));
  }

  /** DEL, and the end of the namespace. */
  async removeNamespace(): Promise<void> {
    if (this.netns === "") return;
    const { code, stdout, stderr } = await this.node.cni("del", this.netns, this.cniArgs);
    closeDescriptor(this.namespaceFd);
    this.namespaceFd = -1;
    await this.node.shell(`umount --lazy /run/netns/${this.netns} && rm /run/netns/${this.netns}`);
    this.netns = "";
    if (code !== 0) throw failureOf(this.name, stdout, stderr);
  }

  async startApp(): Promise<void> {
    if (this.wish.idle === true) return;
    this.app = await this.start(["serve", `-name=${this.name}`, `-ports=${(this.wish.ports ?? [APP_PORT]).join()}`]);
    await this.app.says("serving");
  }

  /** Starts one more process of the pod, in its control group and its network or another one. */
  async start(args: readonly string[], netns = this.netns): Promise<NodeProgram> {
    const { lab, name } = this.node;
    const group = lab.cgroups.container(name, this.uid, this.containerId);
    const script = `echo 0 > ${group} && exec "$@"`;
    return await NodeProgram.start({
      name: `${this.namespace}/${this.name}`,
      command: this.node.command(["sh", "-c", script, "sh", lab.binaries.pod, ...args], netns),
      logPath: join(lab.directory, "log", `pod-${name}-${this.namespace}-${this.name}.log`),
      env: {},
      forks: 1,
    });
  }

  /** The kubelet's status after the sandbox is there. */
  async report(): Promise<void> {
    await this.node.lab.plane.api.patchStatus(this.object, runningStatus(this.addresses));
  }

  async setPhase(phase: "Succeeded" | "Failed"): Promise<void> {
    await this.node.lab.plane.api.patchStatus(this.object, { ...runningStatus(this.addresses), phase });
  }

  /** The end of the pod in a kubelet's order: processes, namespace, object. */
  async remove(): Promise<void> {
    await this.app?.end();
    this.app = undefined;
    await this.removeNamespace();
    await this.node.lab.plane.api.delete(this.object);
    this.forget();
  }

  /** Takes it off the list and closes what this process holds. */
  forget(): void {
    const at = this.node.pods.indexOf(this);
    if (at >= 0) this.node.pods.splice(at, 1);
    if (this.namespaceFd >= 0) closeDescriptor(this.namespaceFd);
    this.namespaceFd = -1;
    if (this.app === undefined) this.node.lab.cgroups.removePod(this.node.name, this.uid);
  }

  async label(labels: Readonly<Record<string, string | null>>): Promise<void> {
    await this.node.lab.plane.api.patch(this.object, { metadata: { labels } });
  }

  async annotate(annotations: Readonly<Record<string, string | null>>): Promise<void> {
    await this.node.lab.plane.api.patch(this.object, { metadata: { annotations } });
  }

  /** What the agent says of it in the API. */
  async redirection(): Promise<string | undefined> {
    return (await this.node.lab.plane.api.get(this.object)).metadata.annotations?.[REDIRECTION];
  }

  /** Waits until the API has it as enrolled or not. */
  async becomes(value: "enabled" | "pending" | undefined, timeoutMs = 15_000): Promise<void> {
    await eventually(async () => {
      const found = await this.redirection();
      if (found !== value) {
        throw new Error(
          `${this.namespace}/${this.name}: redirection is ${found}, not ${value}; ${this.node.agent.program?.lastWords}`,
        );
      }
    }, timeoutMs);
  }

  /** Opens a connection as an application of this pod would. */
  connect(ip: string, port: number): Promise<Peer> {
    return this.node.lab.sockets.connect(this.namespaceFd, ip, port);
  }

  /** Asks the application of another pod. */
  async get(server: CniPod, family: "ipv4" | "ipv6" = "ipv4", port = APP_PORT): Promise<Answer> {
    return await exchange(() => this.connect(server.ip(family), port));
  }

  /** A command inside its network. */
  exec(command: readonly string[]): Promise<string> {
    return this.node.exec(command, this.netns);
  }
}

export interface Answer {
  readonly name: string;
  /** Whom the application saw, with port. */
  readonly client: string;
}

/** One HTTP exchange over a new connection. Rejects when there is none within the time. */
export async function exchange(connect: () => Promise<Peer>, timeoutMs = EXCHANGE_TIMEOUT_MS): Promise<Answer> {
  return await within<Answer>(timeoutMs, "an answer by HTTP", (resolve, reject) => {
    void (async () => {
      const response = await httpOver(await connect(), "/");
      if (response.status !== 200) throw new Error(`status ${response.status}`);
      return JSON.parse(response.body) as Answer;
    })().then(resolve, reject);
  });
}

/** cnitool prints the plugin's message, its own usage, and the message once more. */
function failureOf(pod: string, stdout: string, stderr: string): Error {
  const lines = `${stdout}\n${stderr}`.trim().split("\n");
  return new CniFailure(pod, lines.slice(lines.findLastIndex((line) => line.startsWith("plugin "))).join(" "));
}
