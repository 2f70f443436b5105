/** What is to be in place on the node (binaries, kubeconfig, CNI configuration), and whether it is. */
import { KUBECONFIG_NAME } from "../net_conf.ts";
import { removeFile, removeLeftovers, writeAtomically } from "./atomic.ts";
import { Binaries } from "./binaries.ts";
import { readConfigDir } from "./config_dir.ts";
import { PluginCredentials } from "./credentials.ts";
import { type InstallFs, NODE_FS } from "./fs.ts";
import { makePlan } from "./plan.ts";
import type { InstallerOptions, InstallResult } from "./types.ts";
import type { WatchedDirectory } from "./watch.ts";

/** A step that failed. */
export class InstallError extends Error {
  override readonly name = "InstallError";
  constructor(message: string, readonly result: InstallResult) {
    super(message);
  }
}

export type Verdict =
  | { readonly kind: "good"; readonly path: string; readonly warnings: readonly string[] }
  /** A pass puts it right. */
  | { readonly kind: "repair"; readonly why: string }
  /** It is not right, and nothing can be done before others have done something. */
  | { readonly kind: "wait"; readonly why: string };

const SCOPE = "cni-agent";

export class Placement {
  readonly #options: InstallerOptions;
  readonly #fs: InstallFs;
  readonly #binaries: Binaries;
  readonly #credentials: PluginCredentials;

  constructor(options: InstallerOptions) {
    const { config, runDir } = options;
    this.#options = options;
    this.#fs = options.fs ?? NODE_FS;
    this.#binaries = new Binaries(this.#fs, config.binarySource, config.binaryDir);
    this.#credentials = new PluginCredentials(this.#fs, runDir, config, config.kubeconfigMode);
  }

  /**
   * The plugin's binary first, what refers to it last. What is right already is left alone. False: there is no
   * configuration to join yet. Rejects with an InstallError.
   */
  async install(): Promise<boolean> {
    const { log, config } = this.#options;
    await step("COPY_BINARIES_FAILURE", async () => {
      for (const name of await this.#binaries.install()) {
        log.log("info", SCOPE, `copied ${name} to ${config.binaryDir}`);
      }
    });
    await step("CREATE_KUBECONFIG_FAILURE", async () => {
      const written = await this.#credentials.install();
      if (written === undefined) return;
      log.log("info", SCOPE, `wrote kubeconfig file ${this.#credentials.path} with:\n${written.trimEnd()}`);
    });
    return await step("CREATE_CNI_CONFIG_FAILURE", () => this.#writeConfig());
  }

  async #writeConfig(): Promise<boolean> {
    const { config, log } = this.#options;
    const plan = makePlan(await readConfigDir(this.#fs, config.netDir), this.#options);
    if (plan.kind === "wait") return false;
    if (plan.problem === undefined) return true;
    log.log(
      "info",
      SCOPE,
      `configuration requires updates, (re)writing CNI config file at ${plan.path}: ${plan.problem}`,
    );
    await removeLeftovers(this.#fs, plan.path);
    await writeAtomically(this.#fs, plan.path, plan.text, plan.mode);
    for (const path of plan.replaces) {
      if (await removeFile(this.#fs, path)) log.log("info", SCOPE, `removed ${path}: ${plan.path} takes its place`);
    }
    return true;
  }

  /** Rejects when the directory cannot be read. */
  async look(): Promise<Verdict> {
    const why = await this.#binaries.problem() ?? await this.#credentials.problem();
    if (why !== undefined) return { kind: "repair", why };
    const plan = makePlan(await readConfigDir(this.#fs, this.#options.config.netDir), this.#options);
    if (plan.kind === "wait") return plan;
    if (plan.problem !== undefined) return { kind: "repair", why: plan.problem };
    if (plan.preempted !== undefined) return { kind: "wait", why: plan.preempted };
    return { kind: "good", path: plan.path, warnings: plan.warning === undefined ? [] : [plan.warning] };
  }

  watched(): readonly WatchedDirectory[] {
    const { config, runDir } = this.#options;
    const binaries = new Set(this.#binaries.names);
    return [
      { path: config.binaryDir, concerns: (name) => binaries.has(name) },
      { path: config.netDir, concerns: (name) => !name.includes(".tmp.") },
      { path: config.serviceAccountDir, concerns: () => true },
      { path: runDir, concerns: (name) => name === KUBECONFIG_NAME },
    ];
  }
}

async function step<T>(result: InstallResult, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new InstallError(error instanceof Error ? error.message : String(error), result);
  }
}
