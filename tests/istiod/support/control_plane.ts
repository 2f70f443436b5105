/**
 * etcd, kube-apiserver and istiod, as plain processes in the network namespace of one node of the sandbox. There is no scheduler, no
 * controller and no kubelet: what those would make, the tests make (objects.ts).
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import type { IstiodBinaries } from "../../../scripts/support/istiod_binaries.ts";
import { tool } from "../../../src/local/run_tool.ts";
import type { Sandbox } from "../../e2e/support/sandbox.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { MeshCa } from "./mesh_ca.ts";
import { KubeApi } from "./kube_api.ts";
import { ClusterPki } from "./pki.ts";
import { Program } from "./program.ts";

export const ISTIOD_NAME = "istiod.istio-system.svc";
export const ISTIOD_PORT = 15012;
export const SYSTEM_NAMESPACE = "istio-system";

const PLACE = { node: "control" } as const;
const SERVICE_RANGE = "10.96.0.0/16";
const FIRST_SERVICE_IP = "10.96.0.1";
const API_PORT = 6443;
/** On two cores that build something else as well. */
const START_TIMEOUT_MS = 120_000;

export class ControlPlane {
  readonly #sandbox: Sandbox;
  readonly #binaries: IstiodBinaries;
  readonly #programs: Program[] = [];
  readonly directory: string;
  readonly ip: string;
  readonly pki: ClusterPki;
  readonly api: KubeApi;
  /** For programs in the sandbox. */
  kubeconfig = "";
  istiod!: Program;
  /** What istiod signs with. */
  ca!: MeshCa;
  #restarts = 0;
  #istiodEnv: Readonly<Record<string, string>> = {};

  private constructor(sandbox: Sandbox, binaries: IstiodBinaries, directory: string, ip: string, pki: ClusterPki) {
    this.#sandbox = sandbox;
    this.#binaries = binaries;
    this.directory = directory;
    this.ip = ip;
    this.pki = pki;
    this.api = new KubeApi(join(directory, "api.sock"));
  }

  /**
   * The sandbox must have the node "control" with this address. `istiodEnv` is added to istiod's environment, `meshConfig` to its mesh
   * configuration. Resolves when istiod serves.
   */
  static async start(
    sandbox: Sandbox,
    binaries: IstiodBinaries,
    directory: string,
    ip: string,
    istiodEnv: Readonly<Record<string, string>> = {},
    meshConfig: Readonly<Record<string, unknown>> = {},
  ): Promise<ControlPlane> {
    for (const name of ["pki", "log", "istiod"]) mkdirSync(join(directory, name), { recursive: true });
    const pki = await ClusterPki.create(join(directory, "pki"));
    const plane = new ControlPlane(sandbox, binaries, directory, ip, pki);
    plane.ca = await MeshCa.create();
    plane.#istiodEnv = istiodEnv;
    await plane.#startApi();
    await plane.#prepareCluster(meshConfig);
    await plane.startIstiod();
    return plane;
  }

  /** Starts istiod, or starts it again after {@link endIstiod}. */
  async startIstiod(): Promise<void> {
    const args = [
      "discovery",
      `--kubeconfig=${this.kubeconfig}`,
      `--meshConfig=${join(this.directory, "istiod/mesh.yaml")}`,
      "--httpAddr=:8080",
      "--grpcAddr=:15010",
      `--secureGRPCAddr=:${ISTIOD_PORT}`,
      "--monitoringAddr=:15014",
      "--httpsAddr=:15017",
      "--ctrlz_port=0",
      "--domain=cluster.local",
      "--kubernetesApiQPS=500",
      "--kubernetesApiBurst=1000",
      "--log_output_level=default:info,delta:info",
    ];
    this.istiod = await this.#run(`istiod${this.#restarts++ === 0 ? "" : `-${this.#restarts}`}`, [
      this.#binaries.istiod,
      ...args,
    ], {
      POD_NAME: "istiod-0",
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      PILOT_ENABLE_AMBIENT: "true",
      CLUSTER_ID: "Kubernetes",
      CA_TRUSTED_NODE_ACCOUNTS: `${SYSTEM_NAMESPACE}/ztunnel`,
      AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY: "true",
      // Lets the root be changed while it runs.
      ISTIO_MULTIROOT_MESH: "true",
      ...this.#istiodEnv,
    }, join(this.directory, "istiod"));
    await this.istiod.ready(() => this.#answers("http://127.0.0.1:8080/ready"), START_TIMEOUT_MS);
  }

  endIstiod(): Promise<void> {
    return this.istiod.end("SIGKILL");
  }

  /** What istiod answers on its debug port, such as `/debug/syncz`. */
  debug(path: string): Promise<string> {
    return this.inside(["curl", "-sS", "--max-time", "20", `http://127.0.0.1:8080${path}`]);
  }

  metrics(): Promise<string> {
    return this.inside(["curl", "-sS", "--max-time", "20", "http://127.0.0.1:15014/metrics"]);
  }

  istioctl(...args: readonly string[]): Promise<string> {
    return this.inside([this.#binaries.istioctl, "--kubeconfig", this.kubeconfig, ...args]);
  }

  kubectl(...args: readonly string[]): Promise<string> {
    return this.inside([this.#binaries.kubectl, "--kubeconfig", this.kubeconfig, ...args]);
  }

  /** Runs a command beside the control plane. Rejects unless it exits with 0. */
  inside(command: readonly string[]): Promise<string> {
    return tool(this.#sandbox.command(command, PLACE, this.directory));
  }

  async stop(): Promise<void> {
    this.api.close();
    for (const program of [...this.#programs].reverse()) await program.end();
  }

  async #startApi(): Promise<void> {
    const { pki } = this;
    const names = [
      "DNS:kubernetes.default.svc",
      "DNS:localhost",
      "IP:127.0.0.1",
      `IP:${this.ip}`,
      `IP:${FIRST_SERVICE_IP}`,
    ].join();
    await Promise.all([
      pki.issue("apiserver", "/CN=kube-apiserver", names),
      pki.issue("admin", "/O=system:masters/CN=admin"),
    ]);
    this.kubeconfig = await pki.kubeconfig("admin", `https://127.0.0.1:${API_PORT}`);
    const etcd = await this.#run("etcd", [
      this.#binaries.etcd,
      `--data-dir=${join(this.directory, "etcd")}`,
      "--listen-client-urls=http://127.0.0.1:2379",
      "--advertise-client-urls=http://127.0.0.1:2379",
      "--listen-peer-urls=http://127.0.0.1:2380",
      // Nothing of it outlives the run.
      "--unsafe-no-fsync",
    ]);
    await etcd.ready(() => this.#answers("http://127.0.0.1:2379/health"), START_TIMEOUT_MS);
    const server = await this.#run("kube-apiserver", [
      this.#binaries.kubeApiserver,
      "--etcd-servers=http://127.0.0.1:2379",
      `--secure-port=${API_PORT}`,
      "--bind-address=0.0.0.0",
      `--advertise-address=${this.ip}`,
      `--tls-cert-file=${pki.path("apiserver.crt")}`,
      `--tls-private-key-file=${pki.path("apiserver.key")}`,
      `--client-ca-file=${pki.path("ca.crt")}`,
      `--kubelet-client-certificate=${pki.path("admin.crt")}`,
      `--kubelet-client-key=${pki.path("admin.key")}`,
      `--service-account-key-file=${pki.path("sa.pub")}`,
      `--service-account-signing-key-file=${pki.path("sa.key")}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      "--api-audiences=https://kubernetes.default.svc,istio-ca",
      `--service-cluster-ip-range=${SERVICE_RANGE}`,
      "--authorization-mode=RBAC",
      "--disable-admission-plugins=ServiceAccount",
      "--enable-priority-and-fairness=false",
    ]);
    // The proxy keeps its socket for itself; the API server answers when it does.
    await this.#run("kubectl-proxy", [
      this.#binaries.kubectl,
      `--kubeconfig=${this.kubeconfig}`,
      "proxy",
      `--unix-socket=${join(this.directory, "api.sock")}`,
      "--reject-paths=^$",
      "--reject-methods=^$",
      "--accept-hosts=.*",
    ]);
    await server.ready(async () => (await this.api.read("/readyz")) === "ok", START_TIMEOUT_MS);
  }

  /** Custom resources, namespace, mesh configuration and the chart's template for waypoints: istiod reads them at its start. */
  async #prepareCluster(meshConfig: Readonly<Record<string, unknown>>): Promise<void> {
    const { files } = this.#binaries;
    const crds = readdirSync(files).filter((name) => name.startsWith("crd-"));
    await this.kubectl("apply", "--server-side", ...crds.flatMap((name) => ["-f", join(files, name)]));
    // One that has no status at all yet is an error to it.
    const established = ["--for=condition=Established", "crd", "--all", "--timeout=60s"];
    await eventually(() => this.kubectl("wait", ...established), START_TIMEOUT_MS);
    await this.api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: SYSTEM_NAMESPACE } });
    await this.api.apply({
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: "ztunnel", namespace: SYSTEM_NAMESPACE },
    });
    await this.ca.writeFiles(join(this.directory, "istiod/etc/cacerts"));
    const inject = join(this.directory, "istiod/var/lib/istio/inject");
    mkdirSync(inject, { recursive: true });
    writeFileSync(join(inject, "config"), JSON.stringify(injectionConfig(files)));
    writeFileSync(join(inject, "values"), JSON.stringify(chartValues(files)));
    writeFileSync(join(this.directory, "istiod/mesh.yaml"), JSON.stringify({ ...MESH_CONFIG, ...meshConfig }));
  }

  async #answers(url: string): Promise<boolean> {
    await this.inside(["curl", "-sSf", "--max-time", "5", "-o", "/dev/null", url]);
    return true;
  }

  async #run(
    name: string,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
    workingDirectory = this.directory,
  ): Promise<Program> {
    const program = await Program.start(this.#sandbox, {
      name,
      command,
      place: PLACE,
      workingDirectory,
      logPath: join(this.directory, "log", `${name}.log`),
      env,
    });
    this.#programs.push(program);
    return program;
  }
}

/** As the chart's ambient profile has it. */
const MESH_CONFIG = {
  trustDomain: "cluster.local",
  rootNamespace: SYSTEM_NAMESPACE,
  defaultProviders: { metrics: ["prometheus"] },
  defaultConfig: {
    discoveryAddress: `${ISTIOD_NAME}:${ISTIOD_PORT}`,
    proxyMetadata: { ISTIO_META_ENABLE_HBONE: "true" },
  },
};

/** The part of the chart's injector configuration that istiod's gateway controller uses. */
function injectionConfig(files: string): unknown {
  return {
    defaultTemplates: [],
    policy: "disabled",
    templates: {
      waypoint: readFileSync(join(files, "waypoint-template.yaml"), "utf8"),
      "kube-gateway": readFileSync(join(files, "gateway-template.yaml"), "utf8"),
    },
  };
}

function chartValues(files: string): unknown {
  const chart = parse(readFileSync(join(files, "values.yaml"), "utf8"))["_internal_defaults_do_not_set"];
  const { global, sidecarInjectorWebhook, revision, cni, env, gateways } = chart;
  return { global, sidecarInjectorWebhook, revision, pilot: { cni, env }, gateways };
}
