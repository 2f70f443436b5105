/** Istio on the cluster, by its own charts as a user would install them: only the images and the machine's folders are given. */
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import type { ClusterBinaries } from "../../../scripts/support/cluster_binaries.ts";
import { ROOT } from "../../../scripts/support/tools.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { AMBIT_IMAGE, ISTIOD_IMAGE, STOCK_CNI_IMAGE } from "./images.ts";
import type { Kubernetes } from "./kubernetes.ts";

export const SYSTEM = "istio-system";
const KUBE_VERSION = "1.37.2";
const ROLLOUT_TIMEOUT_MS = 90_000;
/** Two cores have room for all of it, whatever the charts ask for. */
const RESOURCES = { requests: { cpu: "10m", memory: "32Mi" } };

/** Whose node agent. */
export type Cni = "istio-cni" | "ambit";

export interface CniSettings {
  /** Native nftables rules instead of iptables. */
  readonly nativeNftables?: boolean;
}

export class Istio {
  readonly #kubernetes: Kubernetes;
  readonly #binaries: ClusterBinaries;
  readonly #directory: string;

  constructor(kubernetes: Kubernetes, binaries: ClusterBinaries, directory: string) {
    this.#kubernetes = kubernetes;
    this.#binaries = binaries;
    this.#directory = directory;
  }

  /** istiod, its custom resources, ambit's ztunnel and a node agent; resolves when all are ready. */
  async install(cni: Cni): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    const { files } = this.#binaries;
    const gatewayCrds = readdirSync(files).filter((name) => name.startsWith("crd-gateway."));
    await this.#kubectl("apply", "--server-side", ...gatewayCrds.flatMap((name) => ["-f", join(files, name)]));
    await this.#kubectl("create", "namespace", SYSTEM);
    await this.#apply("istio-base", "base", [{ defaultRevision: "default" }]);
    await this.#kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s");
    await this.#apply("istiod", "istio-control/istio-discovery", [ISTIOD_VALUES]);
    await this.#applyCni(cni, {});
    await this.#apply("ztunnel", "ztunnel", [
      overlay("values-ztunnel.yaml"),
      { image: AMBIT_IMAGE, imagePullPolicy: "Never", resources: RESOURCES },
    ]);
    await this.#rolledOut("deployment/istiod");
    await Promise.all([this.#rolledOut("daemonset/istio-cni-node"), this.#rolledOut("daemonset/ztunnel")]);
  }

  /** As `helm upgrade` does it. A change of values alone does not restart the pods: `restart` does. */
  async changeCni(cni: Cni, settings: CniSettings = {}, restart = false): Promise<void> {
    await this.#applyCni(cni, settings);
    if (restart) await this.#kubectl("-n", SYSTEM, "rollout", "restart", "daemonset/istio-cni-node");
    await this.#rolledOut("daemonset/istio-cni-node");
  }

  /** Waypoints of all Gateways are ambit's from now on, as the overlay of deploy/ does it; istiod itself stays as it is. */
  async takeWaypoints(): Promise<void> {
    // Helm takes a list whole or not at all: the image cannot be given beside the overlay.
    const values = readOverlay("values-waypoint.yaml").replaceAll(/^( *image:) .*$/gm, `$1 ${AMBIT_IMAGE}`);
    await this.#apply("istiod", "istio-control/istio-discovery", [ISTIOD_VALUES, parse(values)]);
  }

  async restart(daemonSet: "ztunnel" | "istio-cni-node"): Promise<void> {
    await this.#kubectl("-n", SYSTEM, "rollout", "restart", `daemonset/${daemonSet}`);
    await this.#rolledOut(`daemonset/${daemonSet}`);
  }

  /** Which one the DaemonSet of the node agent has. */
  cniImage(): Promise<string> {
    const path = "{.spec.template.spec.containers[0].image}";
    return this.#kubectl("-n", SYSTEM, "get", "daemonset/istio-cni-node", "-o", `jsonpath=${path}`);
  }

  istioctl(...args: readonly string[]): Promise<string> {
    return tool([this.#binaries.istioctl, "--kubeconfig", this.#kubernetes.kubeconfig, ...args]);
  }

  async #applyCni(cni: Cni, { nativeNftables = false }: CniSettings): Promise<void> {
    const { binDirectory, confDirectory } = this.#kubernetes.cni;
    const common = {
      pullPolicy: "Never",
      cniBinDir: binDirectory,
      cniConfDir: confDirectory,
      resources: RESOURCES,
      global: { nativeNftables },
    };
    await this.#apply("istio-cni", "istio-cni", [
      ...(cni === "ambit" ? [overlay("values-cni.yaml")] : []),
      { ...common, image: cni === "ambit" ? AMBIT_IMAGE : STOCK_CNI_IMAGE },
    ]);
  }

  /** Later values win over earlier ones, as of several files given to helm. */
  async #apply(release: string, chart: string, values: readonly unknown[]): Promise<void> {
    const files = await Promise.all([{ profile: "ambient" }, ...values].map(async (layer, index) => {
      const path = join(this.#directory, `${release}-values-${index}.json`);
      await writeFile(path, JSON.stringify(layer));
      return path;
    }));
    const manifest = await tool([
      this.#binaries.chart,
      `-release=${release}`,
      `-namespace=${SYSTEM}`,
      `-kube-version=${KUBE_VERSION}`,
      ...files.map((path) => `-values=${path}`),
      join(this.#binaries.charts, chart),
    ]);
    await writeFile(join(this.#directory, `${release}.yaml`), manifest);
    await this.#kubernetes.kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"], { input: manifest });
  }

  async #rolledOut(what: string): Promise<void> {
    const timeout = `--timeout=${ROLLOUT_TIMEOUT_MS / 1000}s`;
    await this.#kubernetes.kubectl(["-n", SYSTEM, "rollout", "status", what, timeout], {
      timeoutMs: ROLLOUT_TIMEOUT_MS + 10_000,
    });
  }

  #kubectl(...args: readonly string[]): Promise<string> {
    return this.#kubernetes.kubectl(args);
  }
}

const ISTIOD_VALUES = {
  image: ISTIOD_IMAGE,
  autoscaleEnabled: false,
  resources: RESOURCES,
  global: { imagePullPolicy: "Never" },
};

/** What the project gives to a user of the charts. */
function overlay(name: string): unknown {
  return parse(readOverlay(name));
}

function readOverlay(name: string): string {
  return readFileSync(join(ROOT, "deploy", name), "utf8");
}
