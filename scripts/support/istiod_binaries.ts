/**
 * The Go programs that tests/istiod and tests/cni run against, the control plane first of all: which there are, and what each is for.
 * How they are built and kept: go_modules.ts.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { buildModules, findModules, type GoModule } from "./go_modules.ts";
import { ROOT } from "./tools.ts";

const MODULES = join(ROOT, "tests/istiod/go");
/** A module of its own, beside the tests that use it. */
const CNI_MODULE = join(ROOT, "tests/cni/go");

export const ISTIOD_MODULES: readonly GoModule[] = [
  {
    name: "istio",
    directory: join(MODULES, "istio"),
    programs: {
      "istio.io/istio/pilot/cmd/pilot-discovery": "pilot-discovery",
      "istio.io/istio/istioctl/cmd/istioctl": "istioctl",
    },
    files: {
      "istio.io/istio": (directory) => ({
        "crd-istio.yaml": join(directory, "manifests/charts/base/files/crd-all.gen.yaml"),
        "values.yaml": join(directory, "manifests/charts/istio-control/istio-discovery/values.yaml"),
        "waypoint-template.yaml": join(directory, "manifests/charts/istio-control/istio-discovery/files/waypoint.yaml"),
        "gateway-template.yaml": join(
          directory,
          "manifests/charts/istio-control/istio-discovery/files/kube-gateway.yaml",
        ),
      }),
      "sigs.k8s.io/gateway-api": (directory) => {
        const standard = join(directory, "config/crd/standard");
        const crds = readdirSync(standard).filter((name) => /^gateway\.networking\.k8s\.io_[a-z]+\.yaml$/.test(name));
        return Object.fromEntries(crds.map((name) => [`crd-${name}`, join(standard, name)]));
      },
    },
  },
  {
    name: "kubernetes",
    directory: join(MODULES, "kubernetes"),
    programs: {
      "k8s.io/kubernetes/cmd/kube-apiserver": "kube-apiserver",
      "k8s.io/kubernetes/cmd/kubectl": "kubectl",
      "./kubelet": "kubelet",
    },
  },
  { name: "etcd", directory: join(MODULES, "etcd"), programs: { "go.etcd.io/etcd/server/v3": "server" } },
  {
    name: "cni",
    directory: CNI_MODULE,
    programs: { "github.com/containernetworking/cni/cnitool": "cnitool", "./pod": "pod" },
  },
];

/** The directories of a built control plane. */
export interface IstiodBinaries {
  readonly istiod: string;
  readonly istioctl: string;
  readonly kubeApiserver: string;
  readonly kubectl: string;
  readonly kubelet: string;
  readonly etcd: string;
  /** Runs a chain of CNI plugins. */
  readonly cnitool: string;
  /** First process of a node, application of a pod: tests/cni/go/pod. */
  readonly pod: string;
  /** Custom resource definitions and parts of Istio's charts. */
  readonly files: string;
}

/** Where everything is; undefined when something is not built yet. Rejects when Go is missing or too old. */
export async function findBinaries(): Promise<IstiodBinaries | undefined> {
  const places = await findModules(ISTIOD_MODULES);
  return places === undefined ? undefined : toBinaries(places);
}

/** Builds what is missing, one module after the other. Rejects with the reason. */
export async function buildBinaries(say: (line: string) => void): Promise<IstiodBinaries> {
  return toBinaries(await buildModules(ISTIOD_MODULES, say));
}

/** In the order of {@link ISTIOD_MODULES}. */
export function toBinaries([istio = "", kubernetes = "", etcd = "", cni = ""]: readonly string[]): IstiodBinaries {
  return {
    istiod: join(istio, "pilot-discovery"),
    istioctl: join(istio, "istioctl"),
    files: istio,
    kubeApiserver: join(kubernetes, "kube-apiserver"),
    kubectl: join(kubernetes, "kubectl"),
    kubelet: join(kubernetes, "kubelet"),
    etcd: join(etcd, "server"),
    cnitool: join(cni, "cnitool"),
    pod: join(cni, "pod"),
  };
}
