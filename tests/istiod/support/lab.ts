/**
 * The whole lab: one sandbox with a control plane, nodes of every build, and pods; this process holds the pods' sockets and plays
 * every part for which there is no program: node agents, applications, waypoints, the cluster's controllers.
 *
 * All of it lies in process, mount and network namespaces of its own, which the kernel takes away when this process ends,
 * however it ends.
 */
import { mkdirSync } from "node:fs";
import { appendFile, copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { findBinaries, type IstiodBinaries } from "../../../scripts/support/istiod_binaries.ts";
import type { RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";
import { Lab } from "../../e2e/support/lab.ts";
import { Sandbox } from "../../e2e/support/sandbox.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { Addresses, CONTROL_ADDRESSES } from "./addresses.ts";
import type { Build } from "./builds.ts";
import { ControlPlane, ISTIOD_NAME } from "./control_plane.ts";
import type { CertificateQuestion, ResourcesQuestion } from "./istiod_probe.ts";
import type { KubeObject } from "./kube_api.ts";
import { LabNode } from "./node.ts";
import {
  namespaceObject,
  type PodFacts,
  podObject,
  serviceAccountObject,
  type ServiceFacts,
  serviceObject,
} from "./objects.ts";
import { LabPod } from "./pod.ts";

export interface PodWish extends Omit<PodFacts, "node" | "addresses" | "serviceAccount" | "captured"> {
  readonly node: LabNode;
  /** Default: new ones of both families. */
  readonly addresses?: readonly string[];
  /** Default: the pod's name. */
  readonly serviceAccount?: string;
  /** Default: yes. */
  readonly captured?: boolean;
  readonly redirection?: Partial<RedirectionSettings>;
  /** The API server knows it, ztunnel serves it, but no traffic of it is redirected: a proxy of its own. */
  readonly unredirected?: boolean;
}

/** What a lab's istiod is told besides the defaults. */
export interface PlaneSettings {
  readonly istiodEnv?: Readonly<Record<string, string>>;
  readonly meshConfig?: Readonly<Record<string, unknown>>;
}

export class IstiodLab {
  readonly lab = new Lab();
  readonly addresses = new Addresses();
  readonly nodes = new Map<string, LabNode>();
  readonly pods: LabPod[] = [];
  plane!: ControlPlane;
  readonly #namespaces = new Set<string>();
  readonly #accounts = new Set<string>();

  private constructor(readonly directory: string, readonly sandbox: Sandbox, readonly binaries: IstiodBinaries) {}

  static async start({ istiodEnv, meshConfig }: PlaneSettings = {}): Promise<IstiodLab> {
    const binaries = await findBinaries();
    if (binaries === undefined) throw new Error("the control plane is not built: run `deno task istiod:build` first");
    const directory = await mkdtemp(join(tmpdir(), "ambit-istiod-"));
    mkdirSync(join(directory, "log"));
    const lab = new IstiodLab(directory, await Sandbox.start(directory), binaries);
    try {
      await copyFile("/etc/hosts", join(directory, "etc-hosts"));
      await lab.sandbox.add({ nodes: [{ name: "control", addresses: CONTROL_ADDRESSES }], pods: [], captured: [] });
      await tool(
        lab.sandbox.command(["mount", "--bind", join(directory, "etc-hosts"), "/etc/hosts"], { node: "control" }),
      );
      await lab.addHostName(CONTROL_ADDRESSES[0], ISTIOD_NAME);
      const ip = CONTROL_ADDRESSES[0];
      lab.plane = await ControlPlane.start(lab.sandbox, binaries, directory, ip, istiodEnv, meshConfig);
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  /** What the system's resolver answers inside the lab. */
  async addHostName(ip: string, name: string): Promise<void> {
    await appendFile(join(this.directory, "etc-hosts"), `${ip} ${name}\n`);
  }

  /** istiod's root, as it writes it into every namespace. */
  async rootCertificate(): Promise<string> {
    const config = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "istio-ca-root-cert", namespace: "istio-system" },
    };
    return await eventually(async () => {
      const { data } = await this.plane.api.get(config);
      return (data as Record<string, string>)["root-cert.pem"]!;
    }, 30_000);
  }

  /** A node without a ztunnel; {@link LabNode.start} starts one. */
  async addNode(build: Build, name: string, labels: Readonly<Record<string, string>> = {}): Promise<LabNode> {
    const facts = { name, addresses: this.addresses.nextNode(), labels };
    await this.sandbox.add({ nodes: [facts], pods: [], captured: [] });
    const node = await LabNode.create(this, build, facts);
    this.nodes.set(name, node);
    return node;
  }

  /** A second place for a ztunnel of the same node. */
  async addTwin(original: LabNode): Promise<LabNode> {
    const place = `${original.name}-twin`;
    const addresses = this.addresses.nextNode();
    await this.sandbox.add({ nodes: [{ name: place, addresses }], pods: [], captured: [] });
    const twin = await LabNode.createTwin(original, place, addresses);
    this.nodes.set(place, twin);
    return twin;
  }

  async addNamespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#namespaces.add(name);
    await this.plane.api.apply(namespaceObject(name, labels));
  }

  /** Makes the objects; nothing waits for istiod. */
  async apply(...objects: readonly KubeObject[]): Promise<KubeObject[]> {
    const made: KubeObject[] = [];
    for (const object of objects) made.push(await this.plane.api.apply(object));
    return made;
  }

  async delete(...objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) await this.plane.api.delete(object);
  }

  /** Resolves with the service's virtual address. */
  async addService(facts: ServiceFacts): Promise<string> {
    const [service] = await this.apply(serviceObject(facts));
    return (service!.spec as { clusterIP: string }).clusterIP;
  }

  /** Makes pods: objects, namespaces, redirection; captured ones are told to their node's ztunnel and acked by it. */
  async addPods(...wishes: readonly PodWish[]): Promise<LabPod[]> {
    const made = await this.preparePods(...wishes);
    await Promise.all(made.map(async (pod, i) => {
      if (pod.facts.captured) await wishes[i]!.node.addPod(pod);
    }));
    return made;
  }

  /** The same, but no ztunnel is told. */
  async preparePods(...wishes: readonly PodWish[]): Promise<LabPod[]> {
    const facts = wishes.map((wish): PodFacts => {
      const { node, addresses, serviceAccount, captured, redirection: _, unredirected: __, ...rest } = wish;
      return {
        ...rest,
        node: node.name,
        addresses: addresses ?? this.addresses.nextPod(),
        serviceAccount: serviceAccount ?? wish.name,
        captured: captured ?? true,
      };
    });
    const objects = await Promise.all(facts.map((pod) => this.#makePodObject(pod)));
    const uids = objects.map(({ metadata }) => metadata.uid!);
    const redirected = (i: number) => facts[i]!.captured && wishes[i]!.unredirected !== true;
    const settings = wishes.find(({ redirection }) => redirection !== undefined)?.redirection;
    await this.sandbox.add({
      nodes: [],
      pods: facts.map((pod, i) => ({ ...pod, uid: uids[i]! })),
      captured: uids.filter((_, i) => redirected(i)),
      ...(settings === undefined ? {} : { redirection: settings }),
    });
    const made = facts.map((pod, i) => {
      const fd = this.sandbox.openNetns({ pod: pod.name, namespace: pod.namespace });
      return new LabPod(this, pod, uids[i]!, fd);
    });
    this.pods.push(...made);
    return made;
  }

  /** Deletes pods everywhere: API server, ztunnel, namespace. */
  async removePods(...pods: readonly LabPod[]): Promise<void> {
    for (const pod of pods) {
      await this.plane.api.delete(pod.object);
      const agent = this.nodes.get(pod.facts.node)!.agent;
      if (pod.facts.captured) await agent.delPod(pod.uid);
      closeDescriptor(pod.namespaceFd);
      this.pods.splice(this.pods.indexOf(pod), 1);
    }
    await this.sandbox.add({
      nodes: [],
      pods: [],
      captured: [],
      removed: { pods: pods.map(({ uid }) => uid), nodes: [] },
    });
  }

  /** Asks istiod by a client that is not ambit's (istiod_probe.ts). */
  async probe<T>(question: CertificateQuestion | ResourcesQuestion): Promise<T> {
    const script = fileURLToPath(new URL("./istiod_probe.ts", import.meta.url));
    const command = [process.execPath, "run", "--quiet", "--no-check", "-A", script];
    const inside = this.sandbox.command(command, { node: "control" }, this.directory);
    return JSON.parse(await tool(inside, JSON.stringify(question))) as T;
  }

  /** Key and certificate of a pod that is a proxy itself, from istiod, by the pod's own token. */
  async issue(pod: LabPod, ttlSeconds = 86_400): Promise<TlsMaterial> {
    const token = await this.plane.api.createToken(pod.namespace, pod.serviceAccount, pod);
    const root = await this.rootCertificate();
    return await this.probe({ kind: "certificate", identity: pod.identity, token, root, ttlSeconds });
  }

  /** Every node's ztunnel has these workloads (by uid) and services (by `namespace/name`). */
  async settle(
    nodes: readonly LabNode[],
    names: { uids?: readonly string[]; services?: readonly string[] },
  ): Promise<void> {
    await Promise.all(nodes.map((node) =>
      node.knows((dump) => {
        const uids = new Set(dump.workloads.map(({ uid }) => uid));
        const services = new Set(dump.services.map(({ namespace, name }) => `${namespace}/${name}`));
        return names.uids?.find((uid) => !uids.has(uid)) ?? names.services?.find((service) => !services.has(service));
      })
    ));
  }

  /** Ends everything. The directory with the logs stays when it is to be kept. */
  async close(keep = false): Promise<void> {
    for (const node of this.nodes.values()) await node.close().catch(() => {});
    await this.lab.close();
    for (const { namespaceFd } of this.pods) closeDescriptor(namespaceFd);
    await this.plane?.stop().catch(() => {});
    await this.sandbox.stop();
    if (keep) console.log(`logs of istiod, the API server and the ztunnels: ${join(this.directory, "log")}`);
    else await rm(this.directory, { recursive: true, force: true });
  }

  async #makePodObject(pod: PodFacts): Promise<KubeObject> {
    const account = `${pod.namespace}/${pod.serviceAccount}`;
    if (!this.#namespaces.has(pod.namespace)) await this.addNamespace(pod.namespace);
    if (!this.#accounts.has(account)) {
      this.#accounts.add(account);
      await this.plane.api.apply(serviceAccountObject(pod.namespace, pod.serviceAccount));
    }
    return await this.plane.api.apply(podObject(pod));
  }
}
