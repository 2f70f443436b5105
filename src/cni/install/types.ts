/** What the installer is told and tells. */
import type { CniInstallConfig } from "../../cli/config.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { InstallClock } from "./clock.ts";
import type { InstallFs } from "./fs.ts";
import type { WatchDirectory } from "./watch.ts";

/** Values of the label `result` of istio_cni_installs_total. */
export type InstallResult =
  | "SUCCESS"
  | "COPY_BINARIES_FAILURE"
  | "CREATE_KUBECONFIG_FAILURE"
  | "CREATE_CNI_CONFIG_FAILURE";

export interface InstallerOptions {
  readonly config: CniInstallConfig;
  /** A configuration of our own (`config.ownedConfig`) is for ambient mode only. */
  readonly ambientEnabled: boolean;
  /** Where the kubeconfig goes; made when it is missing. */
  readonly runDir: string;
  /** `pluginEntry(…)`, with its `cniVersion`. */
  readonly entry: Readonly<Record<string, unknown>>;
  readonly log: Logger;
  /** The plugin is (not) installed as it should be; called at changes only, and first with true. */
  readonly readyChanged: (ready: boolean, why: string) => void;
  /** One pass has ended: istio_cni_installs_total. */
  readonly installed: (result: InstallResult) => void;
  /** For tests. */
  readonly fs?: InstallFs;
  readonly clock?: InstallClock;
  readonly watch?: WatchDirectory;
}

export interface Installer {
  /** Whether the plugin is installed as it should be and changes are watched for. */
  readonly ready: boolean;
  /** Why it is not ready, or which file it manages; for a person. */
  readonly state: string;
  /** Installs, then repairs what others change, until the signal aborts. What fails is told and tried again: it does not reject. */
  run(signal: AbortSignal): Promise<void>;
  /** Takes away what was installed, as far as it is ours. Not before `run` has ended. Problems are logged, not thrown. */
  cleanUp(): Promise<void>;
}
