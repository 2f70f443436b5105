/** A node's folders in a temporary one, and an installer on them whose time passes when a test says so. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { CniInstallConfig } from "../../../src/cli/config.ts";
import { NODE_FS } from "../../../src/cni/install/fs.ts";
import type { InstallFs } from "../../../src/cni/install/fs.ts";
import { createInstaller } from "../../../src/cni/install/mod.ts";
import type { Installer, InstallResult } from "../../../src/cni/install/mod.ts";
import type { WatchDirectory } from "../../../src/cni/install/watch.ts";
import { pluginEntry } from "../../../src/cni/net_conf.ts";
import type { Logger } from "../../../src/telemetry/log.ts";
import { until } from "../../control/kube/until.ts";
import { VirtualTime } from "../../ztunnel/virtual_time.ts";

const CA = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n";

export const ENTRY = pluginEntry({
  logLevel: "info",
  agentRunDir: "/var/run/istio-cni",
  ambientEnabled: true,
  selectors: [{ podSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } }, namespaceSelector: {} }],
  excludedNamespaces: ["kube-system"],
  podNamespace: "istio-system",
  nativeNftables: false,
  detectionRetry: false,
});

export const BRIDGE = {
  cniVersion: "0.3.1",
  name: "bridge",
  type: "bridge",
  bridge: "cni0",
  ipam: { type: "host-local" },
};
export const LIST = {
  name: "k8s-pod-network",
  cniVersion: "0.3.1",
  plugins: [
    { type: "calico", log_level: "info", mtu: 1440, ipam: { type: "calico-ipam" } },
    { type: "portmap", snat: true, capabilities: { portMappings: true } },
  ],
};
export const OTHER_LIST = { name: "other", cniVersion: "1.0.0", plugins: [{ type: "ptp" }] };

export function captureLog(): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  return { lines, log: { enabled: () => true, log: (level, _target, message) => lines.push(`${level} ${message}`) } };
}

export interface NodeSettings {
  readonly config?: Partial<CniInstallConfig>;
  readonly ambientEnabled?: boolean;
  readonly fs?: Partial<InstallFs>;
  /** Default: changes are told by `touch`. */
  readonly watch?: WatchDirectory;
}

export class TestNode {
  readonly root = mkdtempSync(join(tmpdir(), "ambit-install-"));
  readonly netDir = join(this.root, "net.d");
  readonly binaryDir = join(this.root, "bin");
  readonly sourceDir = join(this.root, "source");
  readonly accountDir = join(this.root, "account");
  readonly runDir = join(this.root, "run/istio-cni");
  readonly kubeconfig = join(this.runDir, "istio-cni-kubeconfig");
  readonly time = new VirtualTime();
  readonly results: InstallResult[] = [];
  readonly readiness: boolean[] = [];
  readonly captured = captureLog();
  readonly watched = new Map<string, (name: string | undefined) => void>();
  readonly config: CniInstallConfig;
  readonly installer: Installer;
  readonly #settings: NodeSettings;
  #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(settings: NodeSettings = {}) {
    this.#settings = settings;
    for (const directory of [this.netDir, this.binaryDir, this.sourceDir, this.accountDir]) mkdirSync(directory);
    this.writeBinary("plugin, first version");
    writeFileSync(join(this.accountDir, "token"), "token-1");
    writeFileSync(join(this.accountDir, "ca.crt"), CA);
    this.config = {
      netDir: this.netDir,
      confName: undefined,
      chained: true,
      ownedConfig: false,
      ownedConfigFile: "02-istio-cni.conflist",
      kubeconfigMode: 0o600,
      confGroupRead: false,
      kubeCaFile: undefined,
      skipTlsVerify: false,
      binaryDir: this.binaryDir,
      binarySource: this.sourceDir,
      serviceAccountDir: this.accountDir,
      kubernetesHost: "10.96.0.1",
      kubernetesPort: "443",
      kubernetesProtocol: "https",
      pluginLogLevel: "info",
      ...settings.config,
    };
    this.installer = this.#create();
  }

  #create(): Installer {
    return createInstaller({
      config: this.config,
      ambientEnabled: this.#settings.ambientEnabled ?? true,
      runDir: this.runDir,
      entry: ENTRY,
      log: this.captured.log,
      readyChanged: (ready) => this.readiness.push(ready),
      installed: (result) => this.results.push(result),
      fs: { ...NODE_FS, ...this.#settings.fs },
      clock: { nowMs: () => this.time.nowMs, schedule: this.time.schedule },
      watch: this.#settings.watch ?? this.#watch,
    });
  }

  readonly #watch: WatchDirectory = (path, changed) => {
    if (!existsSync(path)) throw Object.assign(new Error("no such directory"), { code: "ENOENT" });
    this.watched.set(path, changed);
    return { close: () => this.watched.delete(path) };
  };

  writeBinary(text: string): void {
    writeFileSync(join(this.sourceDir, "istio-cni"), text);
    chmodSync(join(this.sourceDir, "istio-cni"), 0o755);
  }

  /** A network configuration; text is written as it is. */
  put(name: string, content: unknown, mode = 0o644): void {
    const path = join(this.netDir, name);
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    chmodSync(path, mode);
  }

  get(name: string): Record<string, unknown> {
    return JSON.parse(readFileSync(join(this.netDir, name), "utf8"));
  }

  types(name: string): unknown[] {
    return (this.get(name)["plugins"] as { type: unknown }[]).map(({ type }) => type);
  }

  files(directory = this.netDir): string[] {
    return readdirSync(directory).sort();
  }

  mode(path: string): number {
    return statSync(path).mode & 0o777;
  }

  start(): void {
    this.#stop = new AbortController();
    this.#running = this.installer.run(this.#stop.signal);
  }

  /** Something in the folder of this file changed; what follows from that is done when the time has passed. */
  async touch(path: string): Promise<void> {
    await this.armed();
    this.watched.get(dirname(path))?.(path.slice(dirname(path).length + 1));
    await until(() => this.time.nextInMs() === 100, "it lets the change settle");
    this.time.advance(100);
  }

  /** It watches, and waits. */
  async armed(): Promise<void> {
    await until(() => this.watched.size > 0 && this.time.pending === 1, "it watches");
  }

  async ready(): Promise<void> {
    await until(() => this.installer.ready && this.time.pending === 1, `it is ready: ${this.installer.state}`);
  }

  async notReady(): Promise<void> {
    await until(() => !this.installer.ready, "it is not ready");
  }

  /** What the throttle holds back runs now. */
  async pass(): Promise<void> {
    await until(() => this.time.pending === 1 && this.time.nextInMs() <= 1_000, "it waits for its turn");
    this.time.advanceToNext();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.root, { recursive: true, force: true });
  }
}
