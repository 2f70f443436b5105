/**
 * The node's CNI configuration directory as the container runtime reads it: files by name, the first valid one wins. Reference cni.md 1.6.
 */
import { join } from "node:path";
import { MAX_CONFIG_BYTES, type NetworkConfig, readNetworkConfig } from "./conflist.ts";
import { type InstallFs, isMissing } from "./fs.ts";

export interface FoundConfig {
  readonly name: string;
  readonly path: string;
  readonly mode: number;
  readonly config: NetworkConfig;
}

export interface ConfigDir {
  /** In the runtime's order. */
  readonly valid: readonly FoundConfig[];
  /** What the runtime passes over, and why: for the log. */
  readonly skipped: readonly { readonly name: string; readonly why: string }[];
}

const EXTENSION = /\.(?:conf|conflist)$/;

/** A directory that is missing has no files. Rejects when it cannot be read. */
export async function readConfigDir(fs: InstallFs, directory: string): Promise<ConfigDir> {
  const valid: FoundConfig[] = [];
  const skipped: { name: string; why: string }[] = [];
  const names = await fs.readDir(directory).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw new Error(`cannot read the CNI configuration directory ${directory}: ${(error as Error).message}`);
  });
  for (const name of names.filter((name) => EXTENSION.test(name)).sort()) {
    const path = join(directory, name);
    try {
      const { mode, bytes, isFile } = await fs.stat(path);
      if (!isFile) throw new Error("it is no file");
      if (bytes > MAX_CONFIG_BYTES) throw new Error(`it is larger than ${MAX_CONFIG_BYTES} bytes`);
      valid.push({ name, path, mode, config: readNetworkConfig(await fs.readFile(path), name) });
    } catch (error) {
      if (!isMissing(error)) skipped.push({ name, why: (error as Error).message });
    }
  }
  return { valid, skipped };
}
