/**
 * Takes the plugin off the node: reference cni.md 1.6. What refers to the plugin goes before the plugin, so that no pod is held up by a chain whose
 * last link is missing. Our entry is taken out of every list it is in, also out of those that an earlier agent chose.
 */
import { join } from "node:path";
import type { Logger } from "../../telemetry/log.ts";
import { KUBECONFIG_NAME, PLUGIN_TYPE } from "../net_conf.ts";
import { removeFile, removeLeftovers, writeAtomically } from "./atomic.ts";
import { type FoundConfig, readConfigDir } from "./config_dir.ts";
import { configText, isOnlyOurs, type JsonObject, withoutEntry } from "./conflist.ts";
import type { InstallFs } from "./fs.ts";
import { ownFileName } from "./plan.ts";
import type { InstallerOptions } from "./types.ts";

const SCOPE = "cni-agent";

type CleanUpOptions = Pick<InstallerOptions, "config" | "ambientEnabled" | "runDir" | "entry" | "log">;

/** Does as much as it can: problems are logged. */
export async function cleanUp(fs: InstallFs, options: CleanUpOptions): Promise<void> {
  const { config, runDir, entry, log } = options;
  const attempt = async (work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      log.log("error", SCOPE, `clean-up: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  const remove = (path: string) =>
    attempt(async () => {
      if (await removeFile(fs, path)) log.log("info", SCOPE, `removed ${path}`);
    });
  const own = ownFileName(options);
  await attempt(async () => {
    const { valid, skipped } = await readConfigDir(fs, config.netDir);
    for (const file of valid) {
      const rest = withoutEntry(file.config, entry);
      const isOurs = rest !== undefined || isOnlyOurs(file.config, entry);
      // A copy of another's network, whichever mode made it: that other one is there itself.
      const isCopy = isOurs && file.name === config.ownedConfigFile && valid.length > 1;
      if (isOurs && file.name === own || isCopy) await remove(file.path);
      else if (rest !== undefined) await attempt(() => strip(fs, file, rest, log));
    }
    if (skipped.some(({ name }) => name === own)) await remove(join(config.netDir, own ?? ""));
  });
  await removeLeftovers(fs, join(runDir, KUBECONFIG_NAME));
  await remove(join(runDir, KUBECONFIG_NAME));
  await removeLeftovers(fs, join(config.binaryDir, PLUGIN_TYPE));
  await remove(join(config.binaryDir, PLUGIN_TYPE));
}

async function strip(fs: InstallFs, file: FoundConfig, rest: JsonObject, log: Logger): Promise<void> {
  await writeAtomically(fs, file.path, configText(rest), file.mode);
  log.log("info", SCOPE, `removed our entry from ${file.path}`);
}
