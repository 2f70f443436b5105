/**
 * The Go programs of tests/cluster besides those of tests/istiod: what makes a machine a node of Kubernetes, Istio's own node agent and
 * its charts. They come from the same modules, so that Go compiles what they share once; only this task asks for them.
 */
import { join } from "node:path";
import { buildModules, findModules, type GoModule } from "./go_modules.ts";
import { ISTIOD_MODULES, type IstiodBinaries, toBinaries } from "./istiod_binaries.ts";
import { ROOT } from "./tools.ts";

const MODULES = join(ROOT, "tests/istiod/go");
const CLUSTER_MODULES: readonly GoModule[] = [
  {
    name: "kubernetes-node",
    directory: join(MODULES, "kubernetes"),
    programs: {
      "k8s.io/kubernetes/cmd/kubelet": "kubelet",
      "k8s.io/kubernetes/cmd/kube-proxy": "kube-proxy",
      "k8s.io/kubernetes/cmd/kube-controller-manager": "kube-controller-manager",
      "k8s.io/kubernetes/cmd/kube-scheduler": "kube-scheduler",
    },
  },
  {
    name: "istio-cni",
    directory: join(MODULES, "istio"),
    programs: {
      "istio.io/istio/cni/cmd/install-cni": "install-cni",
      "istio.io/istio/cni/cmd/istio-cni": "istio-cni",
      "./chart": "chart",
    },
    files: { "istio.io/istio": (directory) => ({ charts: join(directory, "manifests/charts") }) },
  },
  {
    name: "cluster",
    directory: join(ROOT, "tests/cluster/go"),
    programs: { "./app": "app", "./coredns": "coredns" },
  },
];

export interface ClusterBinaries extends Omit<IstiodBinaries, "kubelet" | "pod" | "cnitool"> {
  /** The real one. */
  readonly kubelet: string;
  readonly kubeProxy: string;
  readonly controllerManager: string;
  readonly scheduler: string;
  /** Istio's node agent and its plugin. */
  readonly installCni: string;
  readonly istioCni: string;
  /** Renders a chart. */
  readonly chart: string;
  /** Istio's charts. */
  readonly charts: string;
  /** First process of the node and all that runs in pods: tests/cluster/go/app. */
  readonly app: string;
  readonly coredns: string;
}

const ALL = [...ISTIOD_MODULES, ...CLUSTER_MODULES];

/** Where everything is; undefined when something is not built yet. Rejects when Go is missing or too old. */
export async function findClusterBinaries(): Promise<ClusterBinaries | undefined> {
  const places = await findModules(ALL);
  return places === undefined ? undefined : toClusterBinaries(places);
}

/** Builds what is missing, one module after the other. Rejects with the reason. */
export async function buildClusterBinaries(say: (line: string) => void): Promise<ClusterBinaries> {
  return toClusterBinaries(await buildModules(ALL, say));
}

function toClusterBinaries(places: readonly string[]): ClusterBinaries {
  const [node = "", cni = "", cluster = ""] = places.slice(ISTIOD_MODULES.length);
  return {
    ...toBinaries(places),
    kubelet: join(node, "kubelet"),
    kubeProxy: join(node, "kube-proxy"),
    controllerManager: join(node, "kube-controller-manager"),
    scheduler: join(node, "kube-scheduler"),
    installCni: join(cni, "install-cni"),
    istioCni: join(cni, "istio-cni"),
    chart: join(cni, "chart"),
    charts: join(cni, "charts"),
    app: join(cluster, "app"),
    coredns: join(cluster, "coredns"),
  };
}
