/**
 * The kubeconfig that the plugin asks the API server with: reference cni.md 1.6. It holds the agent's own token, which the kubelet renews, so
 * it is written anew whenever token, CA or address change.
 */
import { dirname, join } from "node:path";
import { caPath, type InClusterSettings, readCa, serverAddress } from "../../control/kube/in_cluster.ts";
import { type KubeconfigSource, kubeconfigText, redactedKubeconfig } from "../../control/kube/kubeconfig.ts";
import { readToken } from "../../control/kube/token.ts";
import { KUBECONFIG_NAME } from "../net_conf.ts";
import { explained, writeAtomically } from "./atomic.ts";
import type { InstallFs } from "./fs.ts";

const RUN_DIR_MODE = 0o750;

export class PluginCredentials {
  readonly path: string;
  readonly #fs: InstallFs;
  readonly #settings: InClusterSettings;
  readonly #mode: number;

  constructor(fs: InstallFs, runDir: string, settings: InClusterSettings, mode: number) {
    this.path = join(runDir, KUBECONFIG_NAME);
    this.#fs = fs;
    this.#settings = settings;
    this.#mode = mode;
  }

  /** Writes it when it is not as it should be; then gives its text without secrets. Rejects with what, where and what to do. */
  async install(): Promise<string | undefined> {
    const source = this.#source();
    if (await this.#isWritten(source)) return undefined;
    const directory = dirname(this.path);
    await this.#fs.makeDir(directory, RUN_DIR_MODE).catch((error: unknown) => {
      throw explained(`cannot make ${directory}`, directory, error);
    });
    await writeAtomically(this.#fs, this.path, new TextEncoder().encode(kubeconfigText(source)), this.#mode);
    return redactedKubeconfig(source);
  }

  /** Why it must be written; undefined when it is as it should be. */
  async problem(): Promise<string | undefined> {
    let source: KubeconfigSource;
    try {
      source = this.#source();
    } catch (error) {
      return (error as Error).message;
    }
    return await this.#isWritten(source)
      ? undefined
      : `${this.path} is not (any more) what token, CA and address make it`;
  }

  /** @throws KubeError */
  #source(): KubeconfigSource {
    const { serviceAccountDir, skipTlsVerify } = this.#settings;
    return {
      server: serverAddress(this.#settings),
      ca: skipTlsVerify ? undefined : readCa(caPath(this.#settings)),
      token: readToken(join(serviceAccountDir, "token")),
    };
  }

  async #isWritten(source: KubeconfigSource): Promise<boolean> {
    try {
      const { mode, isFile } = await this.#fs.stat(this.path);
      if (!isFile || mode !== this.#mode) return false;
      return new TextDecoder().decode(await this.#fs.readFile(this.path)) === kubeconfigText(source);
    } catch {
      return false;
    }
  }
}
