/**
 * The CNI lab: one sandbox with a control plane (API server, istiod) and a node for every build of ambit. This process plays the
 * kubelets, the scheduler and the DaemonSet controller; container runtimes are `cnitool`, network namespaces and control groups.
 *
 * All of it lies in process, mount and network namespaces of its own, which the kernel takes away when this process ends,
 * however it ends.
 */
import { mkdirSync } from "node:fs";
import { appendFile, copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBinaries, type IstiodBinaries } from "../../../scripts/support/istiod_binaries.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { Lab } from "../../e2e/support/lab.ts";
import { Sandbox } from "../../e2e/support/sandbox.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { CONTROL_ADDRESSES } from "../../istiod/support/addresses.ts";
import { type Build } from "../../istiod/support/builds.ts";
import { ControlPlane, ISTIOD_NAME } from "../../istiod/support/control_plane.ts";
import type { KubeObject } from "../../istiod/support/kube_api.ts";
import { serviceAccountObject } from "../../istiod/support/objects.ts";
import { Cgroups } from "./cgroups.ts";
import { CniNode, type Software } from "./node.ts";
import { clusterRoleObject, namespaceObject } from "./objects.ts";

export class CniLab {
  readonly sockets = new Lab();
  readonly nodes = new Map<string, CniNode>();
  readonly cgroups = Cgroups.create();
  plane!: ControlPlane;
  readonly #made = new Set<string>();
  #nodeCount = 0;

  private constructor(readonly directory: string, readonly sandbox: Sandbox, readonly binaries: IstiodBinaries) {}

  static async start(): Promise<CniLab> {
    const binaries = await findBinaries();
    if (binaries === undefined) throw new Error("the control plane is not built: run `deno task istiod:build` first");
    // Short: the path of a socket below it has 107 bytes.
    const directory = await mkdtemp(join(tmpdir(), "ambit-cni-"));
    mkdirSync(join(directory, "log"));
    const lab = new CniLab(directory, await Sandbox.start(directory), binaries);
    try {
      await copyFile("/etc/hosts", join(directory, "etc-hosts"));
      await lab.sandbox.add({ nodes: [{ name: "control", addresses: CONTROL_ADDRESSES }], pods: [], captured: [] });
      await tool(
        lab.sandbox.command(["mount", "--bind", join(directory, "etc-hosts"), "/etc/hosts"], { node: "control" }),
      );
      await appendFile(join(directory, "etc-hosts"), `${CONTROL_ADDRESSES[0]} ${ISTIOD_NAME}\n`);
      lab.plane = await ControlPlane.start(lab.sandbox, binaries, directory, CONTROL_ADDRESSES[0], {
        // Takes the taint from nodes whose agent is ready.
        PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS: "true",
      });
      await lab.plane.api.apply(clusterRoleObject());
    } catch (error) {
      await lab.close(true);
      throw error;
    }
    return lab;
  }

  /** A node without agent and ztunnel. */
  async addNode(build: Build, name: string, software?: Software): Promise<CniNode> {
    const node = await CniNode.create(this, build, name, ++this.#nodeCount, software);
    this.nodes.set(name, node);
    return node;
  }

  /** Idempotent. */
  async addNamespace(name: string, mode: "ambient" | "none" | undefined): Promise<void> {
    if (this.#made.has(name)) return;
    this.#made.add(name);
    await this.plane.api.apply(namespaceObject(name, mode));
  }

  async label(namespace: string, mode: "ambient" | "none" | null): Promise<void> {
    await this.plane.api.patch(namespaceObject(namespace, undefined), {
      metadata: { labels: { "istio.io/dataplane-mode": mode } },
    });
  }

  async addServiceAccount(namespace: string, name: string): Promise<void> {
    const key = `account ${namespace}/${name}`;
    if (this.#made.has(key)) return;
    this.#made.add(key);
    await this.plane.api.apply(serviceAccountObject(namespace, name));
  }

  async apply(...objects: readonly KubeObject[]): Promise<KubeObject[]> {
    const made: KubeObject[] = [];
    for (const object of objects) made.push(await this.plane.api.apply(object));
    return made;
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

  /** Ends everything. The directory with the logs stays when it is to be kept. */
  async close(keep = false): Promise<void> {
    for (const node of this.nodes.values()) await node.close().catch(() => {});
    await this.sockets.close();
    await this.plane?.stop().catch(() => {});
    await this.sandbox.stop();
    this.cgroups.remove();
    if (keep) console.log(`logs of agents, ztunnels and the control plane: ${join(this.directory, "log")}`);
    else await rm(this.directory, { recursive: true, force: true });
  }
}
