/**
 * The control plane that tests/istiod runs against, built from Go modules: which programs there are, where they are kept
 * outside the tree, and how one module is built. What a module yields depends on its files and Go's version only, so that is the
 * key under which it is kept; it appears whole, by a rename, or not at all.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { ROOT, run } from "./tools.ts";

const MODULES = join(ROOT, "tests/istiod/go");
/** What the go.mod files say. */
const GO_MINIMUM = [1, 26] as const;
/** A cold build of the largest module takes about 8 minutes on two cores that have nothing else to do. */
const BUILD_TIMEOUT_MS = 28 * 60_000;

interface GoModule {
  readonly name: string;
  /** Package to the program's name. */
  readonly programs: Readonly<Record<string, string>>;
  /** Folders of the modules it depends on that hold files the tests need: what is taken from them. */
  readonly files?: Readonly<Record<string, (directory: string) => Readonly<Record<string, string>>>>;
}

const GO_MODULES: readonly GoModule[] = [
  {
    name: "istio",
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
    programs: {
      "k8s.io/kubernetes/cmd/kube-apiserver": "kube-apiserver",
      "k8s.io/kubernetes/cmd/kubectl": "kubectl",
      "./kubelet": "kubelet",
    },
  },
  { name: "etcd", programs: { "go.etcd.io/etcd/server/v3": "server" } },
];

/** The directories of a built control plane. */
export interface IstiodBinaries {
  readonly istiod: string;
  readonly istioctl: string;
  readonly kubeApiserver: string;
  readonly kubectl: string;
  readonly kubelet: string;
  readonly etcd: string;
  /** Custom resource definitions and parts of Istio's charts. */
  readonly files: string;
}

/** Where everything is; undefined when something is not built yet. Rejects when Go is missing or too old. */
export async function findBinaries(): Promise<IstiodBinaries | undefined> {
  const version = await goVersion();
  const places = GO_MODULES.map((module) => placeOf(module, version));
  return places.every((place) => existsSync(place)) ? toBinaries(places) : undefined;
}

/** Builds what is missing, one module after the other. Rejects with the reason. */
export async function buildBinaries(say: (line: string) => void): Promise<IstiodBinaries> {
  const version = await goVersion();
  const places: string[] = [];
  for (const module of GO_MODULES) {
    const place = placeOf(module, version);
    places.push(place);
    if (existsSync(place)) {
      say(`${module.name}: is there, ${place}`);
      continue;
    }
    const started = performance.now();
    say(`${module.name}: go build of ${Object.values(module.programs).join(", ")} (minutes when Go's cache is cold)`);
    await buildModule(module, place);
    say(`${module.name}: built in ${Math.round((performance.now() - started) / 1000)} s, ${place}`);
  }
  return toBinaries(places);
}

async function buildModule(module: GoModule, place: string): Promise<void> {
  const cwd = join(MODULES, module.name);
  mkdirSync(cacheDirectory(), { recursive: true });
  const work = mkdtempSync(`${place}.unfinished-`);
  try {
    await go(["build", "-buildvcs=false", "-ldflags=-s -w", "-o", `${work}/`, ...Object.keys(module.programs)], cwd);
    for (const program of Object.values(module.programs)) {
      if (!existsSync(join(work, program))) throw new Error(`go build of ${module.name} made no ${program}`);
    }
    for (const [dependency, pick] of Object.entries(module.files ?? {})) {
      const directory = (await go(["list", "-m", "-f", "{{.Dir}}", dependency], cwd)).trim();
      for (const [name, source] of Object.entries(pick(directory))) copyFileSync(source, join(work, name));
    }
    renameSync(work, place);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    // Somebody else may have built the same meanwhile.
    if (!existsSync(place)) throw error;
  }
}

async function go(args: readonly string[], cwd: string): Promise<string> {
  // Nothing of the machine is linked in, so that the programs run wherever they are carried.
  const env = { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
  const { code, output } = await run(["go", ...args], {
    cwd,
    env,
    show: args[0] === "build",
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  if (code === 0) return output;
  throw new Error(`"go ${args.join(" ")}" failed in ${cwd}: ${output.trim().slice(-2000) || `exit code ${code}`}`);
}

async function goVersion(): Promise<string> {
  const { code, output } = await run(["go", "env", "GOVERSION"], { show: false, cwd: MODULES });
  const hint = `install Go ${GO_MINIMUM.join(".")} or newer (https://go.dev/dl/) and put it on the PATH`;
  if (code !== 0) throw new Error(`cannot run go, which builds the control plane for the tests: ${hint}`);
  const match = /^go(\d+)\.(\d+)/.exec(output.trim());
  const [major, minor] = [Number(match?.[1]), Number(match?.[2])];
  const fresh = major > GO_MINIMUM[0] || (major === GO_MINIMUM[0] && minor >= GO_MINIMUM[1]);
  if (!fresh) throw new Error(`${output.trim()} is too old to build the control plane for the tests: ${hint}`);
  return output.trim();
}

function cacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base !== undefined && base !== "" ? base : join(homedir(), ".cache"), "ambit-istiod");
}

function placeOf(module: GoModule, version: string): string {
  const hash = createHash("sha256").update(`${version} ${process.arch}\n${Object.keys(module.programs).join(" ")}\n`);
  for (const path of filesOf(join(MODULES, module.name))) hash.update(readFileSync(path));
  return join(cacheDirectory(), `${module.name}-${hash.digest("hex").slice(0, 16)}`);
}

/** The module's own files, in a fixed order. */
function filesOf(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => entry.isDirectory() ? filesOf(join(directory, entry.name)) : [join(directory, entry.name)]);
}

function toBinaries([istio = "", kubernetes = "", etcd = ""]: readonly string[]): IstiodBinaries {
  return {
    istiod: join(istio, "pilot-discovery"),
    istioctl: join(istio, "istioctl"),
    files: istio,
    kubeApiserver: join(kubernetes, "kube-apiserver"),
    kubectl: join(kubernetes, "kubectl"),
    kubelet: join(kubernetes, "kubelet"),
    etcd: join(etcd, "server"),
  };
}
