/**
 * Network namespaces as nodes and pods, wired by real routing: a pod's traffic goes through its node, from node to node over
 * a bridge ("the fabric"), and through the other node into the other pod. IPv4 and IPv6.
 *
 * Everything is made inside this process's own network and mount namespace (see sandbox.ts): there is no way out of
 * it to the machine's network, and the kernel takes all of it back when the process ends, however it ends.
 */
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isIPv6 } from "node:net";
import { runToolIn, tool } from "./run_tool.ts";

export interface NodeSite {
  readonly name: string;
  /** One IPv4, one IPv6, or one of each. */
  readonly addresses: readonly string[];
}

export interface PodSite {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  readonly addresses: readonly string[];
}

interface Place {
  readonly netns: string;
  readonly addresses: readonly string[];
  /** The near end of its cable: in the fabric for a node, in the node for a pod. */
  readonly link: string;
}

interface PodPlace extends Place {
  readonly node: string;
}

const FABRIC = "fabric";
/** Every pod's IPv6 gateway; one address on every node-side link end, as link-local addresses allow. */
const GATEWAY_V6 = "fe80::1";

/** No delay by duplicate address detection, nothing learned from routers, and no dependence on the machine's own settings. */
const SYSCTLS: readonly string[] = [
  "ipv4/conf/all/rp_filter=0",
  "ipv4/conf/default/rp_filter=0",
  "ipv4/ip_unprivileged_port_start=0",
  "ipv6/bindv6only=0",
  "ipv6/conf/all/disable_ipv6=0",
  "ipv6/conf/default/disable_ipv6=0",
  "ipv6/conf/default/accept_dad=0",
  "ipv6/conf/default/accept_ra=0",
];
const NODE_SYSCTLS: readonly string[] = [...SYSCTLS, "ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"];

export class Topology {
  readonly #directory: string;
  readonly #nodes = new Map<string, Place>();
  readonly #pods = new Map<string, PodPlace>();
  readonly #everyNode: readonly string[];
  #links = 0;

  private constructor(directory: string, everyNode: readonly string[]) {
    this.#directory = directory;
    this.#everyNode = everyNode;
  }

  /** Makes the empty fabric. `directory` will hold the namespaces' files. `everyNode`: addresses that each node has besides its own. */
  static async create(directory: string, everyNode: readonly string[] = []): Promise<Topology> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await tool(
      ["ip", "-batch", "-"],
      lines([
        "link set lo up",
        `link add ${FABRIC} type bridge mcast_snooping 0`,
        `link set ${FABRIC} up`,
      ]),
    );
    return new Topology(directory, everyNode);
  }

  /** Path of a node's network namespace. Throws for an unknown node. */
  nodeNetns(name: string): string {
    return this.#node(name).netns;
  }

  /** Path of a pod's network namespace. Throws for an unknown pod. */
  podNetns(uid: string): string {
    return this.#pod(uid).netns;
  }

  /** Adds nodes and then pods, all at once: the cost is a few processes per namespace, side by side. All or nothing. */
  async add(nodes: readonly NodeSite[], pods: readonly PodSite[]): Promise<void> {
    const taken = new Set([...this.#nodes.values(), ...this.#pods.values()].flatMap((place) => place.addresses));
    for (const address of [...nodes, ...pods].flatMap((site) => site.addresses)) {
      if (taken.has(address)) throw new Error(`the address ${address} is taken`);
      taken.add(address);
    }
    try {
      await this.#add(nodes, pods);
    } catch (error) {
      for (const { uid } of pods) await this.#removePod(uid, tryIp).catch(() => {});
      for (const { name } of nodes) await this.#removeNode(name, tryIp).catch(() => {});
      throw error;
    }
  }

  async #add(nodes: readonly NodeSite[], pods: readonly PodSite[]): Promise<void> {
    for (const { name, addresses } of nodes) {
      this.#nodes.set(name, { netns: join(this.#directory, `node.${name}`), addresses, link: `n${++this.#links}` });
    }
    for (const { uid, name, namespace, node, addresses } of pods) {
      const netns = join(this.#directory, `pod.${name}@${namespace}`);
      this.#pods.set(uid, { netns, addresses, node, link: `p${++this.#links}` });
    }
    const newNodes = new Set(nodes.map((node) => node.name));
    const newPods = new Set(pods.map((pod) => pod.uid));

    await inParallel([
      ...nodes.map((node) => () => createNetns(this.nodeNetns(node.name), NODE_SYSCTLS)),
      ...pods.map((pod) => () => createNetns(this.podNetns(pod.uid), SYSCTLS)),
    ]);
    await tool(["ip", "-batch", "-"], lines(nodes.flatMap((node) => plugIntoFabric(this.#node(node.name)))));
    const shared = this.#everyNode.map((address) => `addr add ${address} dev lo`);
    await inParallel(nodes.map((node) => () => ip(this.nodeNetns(node.name), shared)));
    await inParallel(
      [...this.#nodes.keys()].map((name) => () => ip(this.nodeNetns(name), this.#nodeBatch(name, newNodes, newPods))),
    );
    await inParallel(
      pods.map((pod) => () => ip(this.podNetns(pod.uid), podBatch(this.#pod(pod.uid), this.#node(pod.node)))),
    );
  }

  /** Takes a pod's wires and namespace away. Processes that still run in it keep a namespace without a network. */
  removePod(uid: string): Promise<void> {
    return this.#removePod(uid, ip);
  }

  /** Takes a node away; its pods must have been removed before. */
  removeNode(name: string): Promise<void> {
    return this.#removeNode(name, ip);
  }

  async #removePod(uid: string, run: typeof ip): Promise<void> {
    const pod = this.#pod(uid);
    this.#pods.delete(uid);
    await inParallel(
      [...this.#nodes].map(([name, node]) => () =>
        run(node.netns, name === pod.node ? [`link del ${pod.link}`] : unroute(node, pod))
      ),
    );
    await removeNetns(pod.netns);
  }

  async #removeNode(name: string, run: typeof ip): Promise<void> {
    const node = this.#node(name);
    this.#nodes.delete(name);
    await run("/proc/self/ns/net", [`link del ${node.link}`]);
    await inParallel([...this.#nodes.values()].map((other) => () => run(other.netns, unroute(other, node))));
    await removeNetns(node.netns);
  }

  /** What `name` must be told, given which nodes and pods are new: its own address, its pods' links, and the way to all others. */
  #nodeBatch(name: string, newNodes: ReadonlySet<string>, newPods: ReadonlySet<string>): string[] {
    const self = this.#node(name);
    const isNew = newNodes.has(name);
    const batch: string[] = [];
    if (isNew) {
      batch.push("link set eth0 up", ...self.addresses.map((address) => `addr add ${address} dev eth0 nodad`));
    }
    for (const [other, { addresses }] of this.#nodes) {
      if (other === name || !(isNew || newNodes.has(other))) continue;
      for (const address of addresses.filter((address) => reaches(self, address))) {
        batch.push(`route add ${address} dev eth0${from(self, address)}`);
      }
    }
    for (const [uid, pod] of this.#pods) {
      if (!(isNew || newPods.has(uid))) continue;
      if (pod.node === name) batch.push(...plugIntoNode(self, pod));
      else batch.push(...routeByNode(self, pod, this.#node(pod.node)));
    }
    return batch;
  }

  #node(name: string): Place {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  #pod(uid: string): PodPlace {
    const pod = this.#pods.get(uid);
    if (pod === undefined) throw new Error(`no pod ${uid}`);
    return pod;
  }
}

function plugIntoFabric(node: Place): string[] {
  return [
    `link add ${node.link} type veth peer name eth0 netns ${node.netns}`,
    `link set ${node.link} master ${FABRIC} up`,
  ];
}

function plugIntoNode(node: Place, pod: PodPlace): string[] {
  return [
    `link add ${pod.link} type veth peer name eth0 netns ${pod.netns}`,
    `link set ${pod.link} up`,
    `addr add ${GATEWAY_V6}/64 dev ${pod.link} nodad`,
    ...pod.addresses.filter((address) => reaches(node, address)).map((address) =>
      `route add ${address} dev ${pod.link}${from(node, address)}`
    ),
  ];
}

function routeByNode(self: Place, pod: PodPlace, via: Place): string[] {
  return pod.addresses.filter((address) => reaches(self, address)).flatMap((address) => {
    const gateway = via.addresses.find((candidate) => isIPv6(candidate) === isIPv6(address));
    return gateway === undefined ? [] : [`route add ${address} via ${gateway} dev eth0 onlink${from(self, address)}`];
  });
}

function unroute(from: Place, { addresses }: Place): string[] {
  return addresses.filter((address) => reaches(from, address)).map((address) => `route del ${address}`);
}

function podBatch(pod: PodPlace, node: Place): string[] {
  const batch = ["link set eth0 up", ...pod.addresses.map((address) => `addr add ${address} dev eth0 nodad`)];
  for (const address of node.addresses) {
    // A node answers ARP for its address on every link, but neighbour discovery only on the link that has the address.
    if (isIPv6(address)) batch.push(`route add default via ${GATEWAY_V6} dev eth0`);
    else batch.push(`route add ${address} dev eth0`, `route add default via ${address} dev eth0`);
  }
  return batch;
}

/** Whether a place has an address of the same family, without which it cannot talk to `address`. */
function reaches(place: Place, address: string): boolean {
  return place.addresses.some((own) => isIPv6(own) === isIPv6(address));
}

/** The source that a node's own traffic (health probes) takes. */
function from(node: Place, destination: string): string {
  const source = node.addresses.find((own) => isIPv6(own) === isIPv6(destination));
  return source === undefined ? "" : ` src ${source}`;
}

/** The file at `path` keeps the namespace alive without a process in it. */
async function createNetns(path: string, sysctls: readonly string[]): Promise<void> {
  await writeFile(path, "");
  const families = existsSync("/proc/sys/net/ipv6") ? sysctls : sysctls.filter((line) => !line.startsWith("ipv6"));
  const settings = families.map((line) => line.split("=")).map(([key, value]) =>
    `echo ${value} > /proc/sys/net/${key}`
  );
  await tool(["unshare", `--net=${path}`, "sh", "-ec", [...settings, "ip link set lo up"].join("\n")]);
}

async function removeNetns(path: string): Promise<void> {
  await tool(["umount", path]);
  await rm(path);
}

async function ip(netns: string, batch: readonly string[]): Promise<void> {
  if (batch.length === 0) return;
  const { code, stderr } = await runToolIn(netns, ["ip", "-batch", "-"], lines(batch));
  if (code !== 0) throw new Error(`cannot set up the network of ${netns}: ${stderr.trim()}`);
}

/** Does what can be done of the batch. */
async function tryIp(netns: string, batch: readonly string[]): Promise<void> {
  await runToolIn(netns, ["ip", "-force", "-batch", "-"], lines(batch));
}

function lines(commands: readonly string[]): string {
  return commands.map((command) => `${command}\n`).join("");
}

/** More at once only queue for the kernel's network lock. */
const PARALLEL = 4;

async function inParallel(tasks: readonly (() => Promise<void>)[]): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < tasks.length) await tasks[next++]!();
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
