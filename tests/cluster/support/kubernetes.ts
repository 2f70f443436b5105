/**
 * Kubernetes on the node: containerd, etcd, the API server, controller manager, scheduler, kube-proxy, kubelet and CoreDNS, with a bridge
 * as the pods' network.
 */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { connect } from "node:net";
import type { ClusterBinaries } from "../../../scripts/support/cluster_binaries.ts";
import { KubeApi } from "../../istiod/support/kube_api.ts";
import { ClusterPki } from "../../istiod/support/pki.ts";
import { type ImageSpec, loadImage } from "./image.ts";
import { kubectl, type KubectlOptions } from "./kubectl.ts";
import {
  BRIDGE,
  CONTAINERD,
  containerdConfig,
  DNS_IP,
  kubeletConfig,
  POD_RANGE,
  proxyConfig,
} from "./kubernetes_files.ts";
import { type Node, NODE_IP, NODE_NAME } from "./node.ts";

const SERVICE_RANGE = "10.97.0.0/16";
const FIRST_SERVICE_IP = "10.97.0.1";
/** Where Debian's containernetworking-plugins are. */
const CNI_PLUGINS = "/usr/lib/cni";
const START_TIMEOUT_MS = 90_000;
const COREDNS = fileURLToPath(new URL("../manifests/coredns.yaml", import.meta.url));

export class Kubernetes {
  readonly #node: Node;
  readonly #binaries: ClusterBinaries;
  readonly #pki: ClusterPki;
  readonly kubeconfig: string;
  readonly api: KubeApi;

  private constructor(node: Node, binaries: ClusterBinaries, pki: ClusterPki, kubeconfig: string) {
    this.#node = node;
    this.#binaries = binaries;
    this.#pki = pki;
    this.kubeconfig = kubeconfig;
    this.api = new KubeApi(node.path("api.sock"));
  }

  /** Resolves when the node is ready, with the images loaded that `early` names; `later` come in behind. */
  static async start(
    node: Node,
    binaries: ClusterBinaries,
    early: readonly ImageSpec[],
    later: readonly ImageSpec[],
  ): Promise<Kubernetes> {
    for (const name of ["pki", "etcd", "kubelet", "cni/bin", "cni/net.d"]) {
      mkdirSync(node.path(name), { recursive: true });
    }
    const pki = await ClusterPki.create(node.path("pki"));
    const kubeconfig = await issueCertificates(pki);
    const kubernetes = new Kubernetes(node, binaries, pki, kubeconfig);
    kubernetes.#writeFiles();
    const images = kubernetes.#startContainerd(early, later);
    await Promise.all([images.early, kubernetes.#startApi()]);
    kubernetes.#startControllers();
    await Promise.all([kubernetes.#nodeReady(), images.later]);
    return kubernetes;
  }

  kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<string> {
    return kubectl([this.#binaries.kubectl, "--kubeconfig", this.kubeconfig, ...args], options);
  }

  load(image: ImageSpec): Promise<void> {
    return loadImage(image, CONTAINERD);
  }

  /** The folders that the chart of istio-cni is told. */
  get cni(): { readonly binDirectory: string; readonly confDirectory: string } {
    return { binDirectory: this.#node.path("cni/bin"), confDirectory: this.#node.path("cni/net.d") };
  }

  async startDns(): Promise<void> {
    const manifest = readFileSync(COREDNS, "utf8").replace("DNS_IP", DNS_IP);
    await this.kubectl(["apply", "-f", "-"], { input: manifest });
  }

  #writeFiles(): void {
    const { path } = bound(this.#node);
    for (const name of readdirSync(CNI_PLUGINS)) copyFileSync(`${CNI_PLUGINS}/${name}`, path(`cni/bin/${name}`));
    writeFileSync(path("resolv.conf"), `nameserver ${DNS_IP}\n`);
    writeFileSync(path("containerd.toml"), containerdConfig(this.#node));
    writeFileSync(path("cni/net.d/10-bridge.conflist"), JSON.stringify(BRIDGE));
    writeFileSync(path("kubelet.yaml"), JSON.stringify(kubeletConfig(this.#node, this.#pki)));
    writeFileSync(path("kube-proxy.yaml"), JSON.stringify(proxyConfig(this.kubeconfig)));
  }

  #startContainerd(early: readonly ImageSpec[], later: readonly ImageSpec[]) {
    const daemon = this.#node.start("containerd", ["containerd", "--config", this.#node.path("containerd.toml")]);
    const loadAll = async (images: readonly ImageSpec[]) => {
      for (const image of images) await this.load(image);
    };
    const first = daemon.ready(() => answers(CONTAINERD), START_TIMEOUT_MS).then(() => loadAll(early));
    const second = first.then(() => loadAll(later));
    // It is awaited once the node is up; a failure before that is not unhandled.
    second.catch(() => {});
    return { early: first, later: second };
  }

  async #startApi(): Promise<void> {
    const pki = this.#pki;
    this.#node.start("etcd", [
      this.#binaries.etcd,
      `--data-dir=${this.#node.path("etcd")}`,
      "--listen-client-urls=http://127.0.0.1:2379",
      "--advertise-client-urls=http://127.0.0.1:2379",
      "--listen-peer-urls=http://127.0.0.1:2380",
      // Nothing of it outlives the run.
      "--unsafe-no-fsync",
    ]);
    const server = this.#node.start("kube-apiserver", [
      this.#binaries.kubeApiserver,
      "--etcd-servers=http://127.0.0.1:2379",
      "--secure-port=6443",
      `--advertise-address=${NODE_IP}`,
      `--tls-cert-file=${pki.path("apiserver.crt")}`,
      `--tls-private-key-file=${pki.path("apiserver.key")}`,
      `--client-ca-file=${pki.path("ca.crt")}`,
      `--kubelet-client-certificate=${pki.path("admin.crt")}`,
      `--kubelet-client-key=${pki.path("admin.key")}`,
      "--kubelet-preferred-address-types=InternalIP",
      `--service-account-key-file=${pki.path("sa.pub")}`,
      `--service-account-signing-key-file=${pki.path("sa.key")}`,
      "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
      `--service-cluster-ip-range=${SERVICE_RANGE}`,
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      "--allow-privileged=true",
    ]);
    this.#node.start("kubectl-proxy", [
      this.#binaries.kubectl,
      `--kubeconfig=${this.kubeconfig}`,
      "proxy",
      `--unix-socket=${this.#node.path("api.sock")}`,
      "--reject-paths=^$",
      "--reject-methods=^$",
      "--accept-hosts=.*",
    ]);
    await server.ready(async () => (await this.api.read("/readyz")) === "ok", START_TIMEOUT_MS);
  }

  #startControllers(): void {
    const { path } = bound(this.#node);
    const pki = this.#pki;
    this.#node.start("kube-controller-manager", [
      this.#binaries.controllerManager,
      `--kubeconfig=${this.kubeconfig}`,
      `--root-ca-file=${pki.path("ca.crt")}`,
      `--service-account-private-key-file=${pki.path("sa.key")}`,
      `--cluster-signing-cert-file=${pki.path("ca.crt")}`,
      `--cluster-signing-key-file=${pki.path("ca.key")}`,
      `--service-cluster-ip-range=${SERVICE_RANGE}`,
      `--cluster-cidr=${POD_RANGE}`,
      `--flex-volume-plugin-dir=${path("kubelet/volume-plugins")}`,
      "--leader-elect=false",
    ]);
    this.#node.start("kube-scheduler", [
      this.#binaries.scheduler,
      `--kubeconfig=${this.kubeconfig}`,
      "--leader-elect=false",
    ]);
    this.#node.start("kube-proxy", [
      this.#binaries.kubeProxy,
      `--config=${path("kube-proxy.yaml")}`,
      `--hostname-override=${NODE_NAME}`,
    ]);
    this.#node.start("kubelet", [
      this.#binaries.kubelet,
      `--config=${path("kubelet.yaml")}`,
      `--kubeconfig=${pki.path("kubelet.conf")}`,
      `--hostname-override=${NODE_NAME}`,
      `--node-ip=${NODE_IP}`,
      `--root-dir=${path("kubelet")}`,
      `--cert-dir=${path("pki")}`,
    ]);
  }

  async #nodeReady(): Promise<void> {
    await this.kubectl(["wait", "--for=create", `node/${NODE_NAME}`, "--timeout=60s"]);
    await this.kubectl(["wait", "--for=condition=Ready", `node/${NODE_NAME}`, "--timeout=60s"]);
  }
}

function bound(node: Node) {
  return { path: (name: string) => node.path(name) };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const end = (result: boolean) => {
      socket.destroy();
      resolve(result);
    };
    socket.on("connect", () => end(true));
    socket.on("error", () => end(false));
  });
}

/** Resolves with the path of the administrator's kubeconfig. */
async function issueCertificates(pki: ClusterPki): Promise<string> {
  const names = [
    "DNS:localhost",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
    "IP:127.0.0.1",
    `IP:${NODE_IP}`,
    `IP:${FIRST_SERVICE_IP}`,
  ].join();
  await Promise.all([
    pki.issue("apiserver", "/CN=kube-apiserver", names),
    pki.issue("admin", "/O=system:masters/CN=admin"),
    pki.issue("kubelet", `/O=system:nodes/CN=system:node:${NODE_NAME}`),
  ]);
  await pki.kubeconfig("kubelet", `https://${NODE_IP}:6443`);
  return await pki.kubeconfig("admin", `https://${NODE_IP}:6443`);
}
