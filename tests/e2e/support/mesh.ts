/**
 * A mesh for tests: namespaces as nodes and pods, one real ztunnel per node under test, and this process as their control plane
 * and CA and as every application. The text is that of a mesh file (src/control/local/mesh_file.ts).
 */
import "reflect-metadata";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { AddressBook } from "../../../src/control/local/addresses.ts";
import { createLocalCa, type LocalCa } from "../../../src/control/local/ca.ts";
import type { Delivery } from "../../../src/control/local/channel_server.ts";
import { type NodeChannel, serveNode } from "../../../src/control/local/node_channel.ts";
import { type MeshFile, type MeshPod, readMeshFile } from "../../../src/control/local/mesh_file.ts";
import { createKeyAndRequest } from "../../../src/identity/csr.ts";
import { isIpv6 } from "../../../src/mesh/ip.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";
import { type ZdsPod, ZdsServer, type ZdsServerOptions } from "../../support/zds_server.ts";
import { httpOver, type HttpRequest, type HttpResponse } from "./http.ts";
import { Lab, type Server } from "./lab.ts";
import { parseMetrics, type Sample, type Traffic, traffic } from "./metrics.ts";
import { NetworkError } from "./errors.ts";
import type { Peer, PeerEnd } from "./peer.ts";
import { type Place, Sandbox } from "./sandbox.ts";
import { within } from "./wait.ts";
import { ZtunnelProcess } from "./ztunnel_process.ts";

/** The part of `/config_dump` that the tests look into. */
export interface ConfigDump extends Readonly<Record<string, unknown>> {
  readonly certificates: readonly {
    readonly identity: string;
    readonly state: string;
    readonly certChain: readonly { readonly serialNumber: string }[];
  }[];
  readonly workloadState: Readonly<
    Record<string, {
      readonly state: string;
      readonly connections: Readonly<
        Record<
          "inbound" | "outbound",
          readonly Readonly<Record<"src" | "originalDst" | "actualDst" | "protocol", string | null>>[]
        >
      >;
    }>
  >;
}

export type Family = "ipv4" | "ipv6";

export interface MeshOptions {
  /** Life of the pods' certificates; the default is the CA's. */
  readonly leafTtlMs?: number;
  /** Added to each ztunnel's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Pods are announced by a node agent, as in a cluster; else by the control channel. */
  readonly agents?: ZdsServerOptions;
  /** How pods are redirected, where that is not the default. */
  readonly redirection?: Partial<RedirectionSettings>;
}

export class TestPod {
  constructor(readonly mesh: TestMesh, readonly spec: MeshPod, readonly namespaceFd: number) {}

  get identity(): string {
    return this.spec.identity;
  }

  ip(family: Family = "ipv4"): string {
    return ofFamily(this.spec.addresses, family);
  }

  /** Opens a connection as an application of this pod would. */
  connect(ip: string, port: number): Promise<Peer> {
    return this.mesh.lab.connect(this.namespaceFd, ip, port);
  }

  /** How a connection that is refused looks to the application: the errno, at once or when it reads. "eof" when it was not refused. */
  async refusal(ip: string, port: number, timeoutMs?: number): Promise<PeerEnd> {
    let peer: Peer;
    try {
      peer = await this.connect(ip, port);
    } catch (error) {
      if (error instanceof NetworkError) return error.code;
      throw error;
    }
    const end = await peer.ended(timeoutMs);
    peer.close();
    return end;
  }

  /** An application of this pod. */
  listen(port: number, accepted: (peer: Peer) => void): Server {
    return this.mesh.lab.listen(this.namespaceFd, port, accepted);
  }
}

export class TestNode {
  /** The one that runs now, or ran last. */
  ztunnel!: ZtunnelProcess;
  constructor(
    readonly mesh: TestMesh,
    readonly name: string,
    /** The node in whose network the process runs. */
    readonly home: string,
    readonly namespaceFd: number,
    readonly channel: NodeChannel,
    readonly socket: string,
    /** The node agent, if pods are announced by one. */
    public agent: ZdsServer | undefined,
  ) {}

  /** Starts a ztunnel and waits until it serves its pods. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.launch(env);
    const pods = this.mesh.pods.filter(({ spec }) => spec.captured && spec.node === this.name);
    for (const { spec } of pods) {
      await this.ztunnel.line((line) => line.includes("pod served") && line.includes(`"${spec.uid}"`), 0, 30_000);
    }
  }

  /** Tells the node of a pod; resolves when it is served, if a ztunnel is there. */
  async addPod(pod: MeshPod): Promise<void> {
    const { uid, name, namespace, serviceAccount } = pod;
    if (this.agent !== undefined) {
      this.agent.rememberPod(this.mesh.agentPod(pod));
      if (this.agent.newest !== undefined) await this.agent.addPod(this.mesh.agentPod(pod));
      return;
    }
    const netns = this.mesh.sandbox.netnsInside({ pod: name, namespace });
    await this.channel.addPod({ uid, name, namespace, serviceAccount, netns });
  }

  async launch(env: Readonly<Record<string, string>>): Promise<void> {
    this.ztunnel = await ZtunnelProcess.start(this.mesh.sandbox, this.home, {
      LOCAL_CONTROL: this.socket,
      NODE_NAME: this.name,
      ...(this.agent === undefined ? {} : { INPOD_UDS: this.agent.path }),
      ZTUNNEL_WORKER_THREADS: "1",
      RUST_LOG: "info",
      ...this.mesh.options.env,
      ...env,
    });
  }

  /** Asks one of ztunnel's own HTTP servers. */
  async http(port: number, path: string, request?: HttpRequest): Promise<HttpResponse> {
    return httpOver(await this.mesh.lab.connect(this.namespaceFd, "127.0.0.1", port), path, request);
  }

  async metrics(): Promise<Sample[]> {
    return parseMetrics((await this.http(15020, "/metrics")).body);
  }

  /** The TCP counters of the series that have all of `labels`. */
  async traffic(labels: Readonly<Record<string, string>>): Promise<Traffic> {
    return traffic(await this.metrics(), labels);
  }

  async configDump(): Promise<ConfigDump> {
    return JSON.parse((await this.http(15000, "/config_dump")).body);
  }
}

export class TestMesh {
  readonly lab = new Lab();
  readonly pods: TestPod[] = [];
  readonly nodes: TestNode[] = [];
  file!: MeshFile;
  ca!: LocalCa;
  readonly #book = new AddressBook();

  private constructor(readonly directory: string, readonly sandbox: Sandbox, readonly options: MeshOptions) {}

  /** Makes the namespaces and the control channels, but starts no ztunnel. */
  static async create(text: string, options: MeshOptions = {}): Promise<TestMesh> {
    const directory = await mkdtemp(join(tmpdir(), "ambit-e2e-"));
    const mesh = new TestMesh(directory, await Sandbox.start(directory), options);
    mesh.ca = await mesh.createCa(options.leafTtlMs);
    mesh.file = mesh.#read(text);
    const { nodes, pods } = mesh.file;
    await mesh.sandbox.add({
      nodes,
      pods,
      captured: pods.filter((pod) => pod.captured).map((pod) => pod.uid),
      ...(options.redirection === undefined ? {} : { redirection: options.redirection }),
    });
    for (const spec of pods) {
      const fd = mesh.sandbox.openNetns({ pod: spec.name, namespace: spec.namespace });
      mesh.pods.push(new TestPod(mesh, spec, fd));
    }
    for (const { name } of nodes) mesh.nodes.push(await mesh.#createNode(name, name));
    return mesh;
  }

  static async start(text: string, options: MeshOptions = {}): Promise<TestMesh> {
    const mesh = await TestMesh.create(text, options);
    try {
      await Promise.all(mesh.nodes.map((node) => node.start()));
    } catch (error) {
      await mesh.stop();
      throw error;
    }
    return mesh;
  }

  pod(name: string): TestPod {
    const pod = this.pods.find(({ spec }) => spec.name === name);
    if (pod === undefined) throw new Error(`no pod ${name}`);
    return pod;
  }

  node(name: string): TestNode {
    const node = this.nodes.find((node) => node.name === name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  /** The node of a pod. */
  nodeOf(pod: TestPod): TestNode {
    return this.node(pod.spec.node);
  }

  /**
   * The same node once more, for a second ztunnel beside the first, as in an upgrade. Its own ports would be taken in the
   * first one's network, so it runs in another node's.
   */
  async twin(name: string, home: string): Promise<TestNode> {
    const twin = await this.#createNode(name, home);
    this.nodes.push(twin);
    return twin;
  }

  /** A pod as a node agent knows it. */
  agentPod({ uid, name, namespace, serviceAccount }: MeshPod): ZdsPod {
    return { uid, name, namespace, serviceAccount, netns: this.sandbox.netnsPath({ pod: name, namespace }) };
  }

  /** A service's virtual address. */
  vip(name: string, family: Family = "ipv4"): string {
    const service = this.file.resources.services.find((service) => service.name === name);
    return ofFamily(service?.vips.map((vip) => vip.slice(vip.lastIndexOf("/") + 1)) ?? [], family);
  }

  /** Gives every ztunnel the resources of another version of the file (nodes and pods stay); resolves when all have them in force. */
  async apply(text: string): Promise<void> {
    this.file = this.#read(text);
    const deliveries = await Promise.all(this.nodes.map(({ channel }) => channel.setMesh(this.file.resources)));
    const bad = deliveries.find((delivery: Delivery) => delivery.kind === "refused" || delivery.kind === "unanswered");
    if (bad !== undefined) throw new Error(`a ztunnel did not take the mesh: ${JSON.stringify(bad)}`);
  }

  /** A CA with this mesh's root. */
  createCa(leafTtlMs?: number): Promise<LocalCa> {
    return createLocalCa({
      directory: join(this.directory, "ca"),
      ...(leafTtlMs === undefined ? {} : { leafTtlMs }),
    });
  }

  /** Runs a command in a pod's or node's network, with this machine's files; rejects unless it exits with 0. */
  run(place: Place, command: readonly string[], input = ""): Promise<string> {
    return tool(this.sandbox.command(command, place), input);
  }

  async stop(): Promise<void> {
    for (const { ztunnel } of this.nodes) if (ztunnel?.running) ztunnel.kill("SIGKILL");
    await this.lab.close();
    for (const agent of new Set(this.nodes.map((node) => node.agent))) agent?.stop();
    for (const { channel, namespaceFd } of this.nodes) {
      await channel.close();
      closeDescriptor(namespaceFd);
    }
    for (const { namespaceFd } of this.pods) closeDescriptor(namespaceFd);
    await this.sandbox.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  async #createNode(name: string, home: string): Promise<TestNode> {
    const socket = join(this.directory, `${name}.${this.nodes.length}.sock`);
    const channel = await serveNode({
      path: socket,
      node: name,
      sign: (identity, csr) => this.ca.sign(identity, csr),
      onEvent: () => {},
    });
    await channel.setMesh(this.file.resources);
    const agent = await this.#agentOf(name);
    const node = new TestNode(this, name, home, this.sandbox.openNetns({ node: home }), channel, socket, agent);
    for (const { spec } of this.pods) if (spec.node === name && spec.captured) await node.addPod(spec);
    return node;
  }

  /** One for all ztunnels of a node, in a directory that they share. */
  async #agentOf(name: string): Promise<ZdsServer | undefined> {
    if (this.options.agents === undefined) return undefined;
    const known = this.nodes.find((node) => node.name === name)?.agent;
    if (known !== undefined) return known;
    const directory = join(this.directory, name);
    await mkdir(directory, { recursive: true });
    return ZdsServer.start(join(directory, "ztunnel.sock"), this.options.agents);
  }

  #read(text: string): MeshFile {
    const result = readMeshFile(text, this.#book);
    if (result.ok) return result.mesh;
    throw new Error(result.problems.map(({ line, message }) => `${line}: ${message}`).join("\n"));
  }
}

/** A key and certificate for `identity`, signed by `ca`. */
export async function issue(ca: LocalCa, identity: string): Promise<TlsMaterial> {
  const { privateKeyPem, csrPem } = createKeyAndRequest(identity);
  const { chain, roots } = await ca.sign(identity, csrPem);
  return { privateKey: privateKeyPem, chain, roots };
}

/** The first connection that `pod` accepts on a port, and the server, which is closed with it. */
export async function acceptOne(
  pod: Pick<TestPod, "listen">,
  port: number,
  connect: () => Promise<Peer>,
): Promise<[Peer, Peer]> {
  let accepted: (peer: Peer) => void = () => {};
  const incoming = within<Peer>(10_000, "a connection at the application", (resolve) => accepted = resolve);
  const server = pod.listen(port, (peer) => accepted(peer));
  try {
    const [client, application] = await Promise.all([connect(), incoming]);
    return [client, application];
  } finally {
    server.close();
  }
}

function ofFamily(addresses: readonly string[], family: Family): string {
  const address = addresses.find((address) => isIpv6(address) === (family === "ipv6"));
  if (address === undefined) throw new Error(`no ${family} address`);
  return address;
}
