/** One node with Istio and two workloads: what the scenarios share, and how they look at it. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type ClusterBinaries, findClusterBinaries } from "../../../scripts/support/cluster_binaries.ts";
import { ROOT } from "../../../scripts/support/tools.ts";
import { pause } from "../../e2e/support/wait.ts";
import type { KubeObject } from "../../istiod/support/kube_api.ts";
import { clusterImages } from "./images.ts";
import { type Cni, Istio, SYSTEM } from "./istio.ts";
import { Kubernetes } from "./kubernetes.ts";
import { KubectlError } from "./kubectl.ts";
import { Node } from "./node.ts";
import { say } from "./say.ts";

const WORKLOADS = fileURLToPath(new URL("../manifests/workloads.yaml", import.meta.url));
/** Policies reach a ztunnel in a fraction of it, on a machine that has nothing else to do. */
const EVENTUALLY_MS = 20_000;
const POLL_MS = 250;
const LOG_LINES = 40;

export class Cluster {
  private constructor(
    readonly node: Node,
    readonly kubernetes: Kubernetes,
    readonly istio: Istio,
    readonly binaries: ClusterBinaries,
  ) {}

  /** With this node agent to begin with. `directory` takes everything that is written. */
  static async start(directory: string, cni: Cni): Promise<Cluster> {
    const binaries = await findClusterBinaries();
    if (binaries === undefined) throw new Error("the cluster's programs are not built: run `deno task cluster:build`");
    const started = performance.now();
    const progress = (what: string) => say(`${what} after ${Math.round((performance.now() - started) / 100) / 10} s`);
    const images = clusterImages(binaries, process.env["AMBIT_BINARY"] || join(ROOT, "dist/ambit"));
    const node = await Node.create(directory);
    try {
      const later = [images.coredns, images.istiod, images.stockCni, images.ambit, images.app];
      const kubernetes = await Kubernetes.start(node, binaries, [images.pause], later);
      progress("Kubernetes is ready");
      const istio = new Istio(kubernetes, binaries, node.path("istio"));
      await kubernetes.startDns();
      await istio.install(cni);
      progress("Istio is ready");
      const cluster = new Cluster(node, kubernetes, istio, binaries);
      await cluster.kubectl("apply", "-f", WORKLOADS);
      await cluster.rolledOut("mesh/client", "mesh/server", "plain/client", "plain/server");
      progress("the workloads are ready");
      return cluster;
    } catch (error) {
      say(lastWords(node));
      throw error;
    }
  }

  kubectl(...args: readonly string[]): Promise<string> {
    return this.kubernetes.kubectl(args);
  }

  async apply(...objects: readonly KubeObject[]): Promise<void> {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await this.kubernetes.kubectl(["apply", "-f", "-"], { input: JSON.stringify(list) });
  }

  async delete(...what: readonly string[]): Promise<void> {
    await this.kubectl("delete", "--ignore-not-found", "--wait=true", ...what);
  }

  /** Deployments, as `namespace/name`. */
  async rolledOut(...deployments: readonly string[]): Promise<void> {
    await Promise.all(deployments.map((deployment) => {
      const [namespace = "", name = ""] = deployment.split("/");
      return this.kubectl("-n", namespace, "rollout", "status", `deployment/${name}`, "--timeout=50s");
    }));
  }

  /** Asks from a pod, a deployment's first one when it is not named. Resolves with the body; rejects with the reason. `flags`: of go/app's `get`. */
  async get(from: string, url: string, ...flags: readonly string[]): Promise<string> {
    return await this.kubectl(...exec(from), "/app", "get", ...flags, url);
  }

  /** Why {@link get} gets no good answer: the status with its body, or what became of the connection. "" when it does. */
  async refusal(from: string, url: string): Promise<string> {
    try {
      await this.get(from, url);
      return "";
    } catch (error) {
      const said = error instanceof KubectlError ? /^app: (.*)$/m.exec(error.message.replace(/^.*?": /, "")) : null;
      if (said === null) throw error;
      return said[1]!;
    }
  }

  /** Whether {@link get} gets an answer; anything but the request's own failure is thrown. */
  async reaches(from: string, url: string): Promise<boolean> {
    return (await this.refusal(from, url)) === "";
  }

  async pod(namespace: string, selector: string): Promise<Pod> {
    const pods = await this.pods(namespace, selector);
    const living = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    if (living[0] === undefined) throw new Error(`no pod ${selector} in ${namespace}`);
    return living[0];
  }

  async pods(namespace: string, selector: string): Promise<readonly Pod[]> {
    const path = `/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`;
    return (JSON.parse(await this.kubernetes.api.read(path)) as { items: readonly Pod[] }).items;
  }

  /** Of an object, newest last: `reason: message`. */
  async events(namespace: string, name: string): Promise<readonly string[]> {
    const path = `/api/v1/namespaces/${namespace}/events?fieldSelector=${
      encodeURIComponent(`involvedObject.name=${name}`)
    }`;
    const { items } = JSON.parse(await this.kubernetes.api.read(path)) as {
      items: { reason: string; message: string }[];
    };
    return items.map(({ reason, message }) => `${reason}: ${message}`);
  }

  /** The last lines of the logs of Istio's pods and of the node's own daemons that ended. */
  async words(): Promise<string> {
    const logs = ["deployment/istiod", "daemonset/istio-cni-node", "daemonset/ztunnel"].map(async (what) => {
      const log = await this.kubectl("-n", SYSTEM, "logs", what, `--tail=${LOG_LINES}`).catch(String);
      return `--- ${what}\n${log}`;
    });
    const waypoint = [
      "logs",
      "--selector=gateway.networking.k8s.io/gateway-class-name=istio-waypoint",
      "--all-containers",
    ];
    logs.push(
      this.kubectl("-n", "mesh", ...waypoint, `--tail=${LOG_LINES}`).catch(String).then((log) =>
        `--- waypoint\n${log}`
      ),
    );
    const pods = await this.kubectl("get", "pods", "-A", "-o", "wide").catch(String);
    const events = await this.kubectl("get", "events", "-A", "--field-selector=type=Warning").catch(String);
    return [...await Promise.all(logs), pods, events, `ended: ${this.node.ended().join(", ") || "nothing"}`].join("\n");
  }
}

export interface Pod extends KubeObject {
  readonly metadata: KubeObject["metadata"] & { readonly deletionTimestamp?: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly lastTransitionTime: string;
    }[];
    readonly containerStatuses?: readonly { readonly restartCount: number; readonly ready: boolean }[];
  };
}

/** Words of kubectl for a command in `namespace/pod`, or `namespace/deployment` when there is no such pod. */
export function exec(from: string): readonly string[] {
  const [namespace = "", name = ""] = from.split("/");
  return [
    "-n",
    namespace,
    "exec",
    /-[a-z0-9]{5}$/.test(name) || name.startsWith("pod-") ? name : `deployment/${name}`,
    "--",
  ];
}

/** Repeats `probe` until it does not throw, as {@link import("../../e2e/support/wait.ts").eventually}, but unhurried: each costs a kubectl. */
export async function eventually<T>(probe: () => Promise<T>, timeoutMs = EVENTUALLY_MS): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await pause(POLL_MS);
  }
}

/** When there is no API server to ask. */
function lastWords(node: Node): string {
  return readdirSync(node.path("log")).filter((name) => name.endsWith(".log")).map((name) => {
    const lines = readFileSync(node.path(`log/${name}`), "utf8").trimEnd().split("\n");
    return `--- ${name}\n${lines.slice(-LOG_LINES / 4).join("\n")}`;
  }).join("\n");
}
