/** The machine as the command line sees it. */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, hostname } from "node:os";
import type { Host } from "./ztunnel_config.ts";

export function createHost(): Host {
  return {
    cpus: availableParallelism(),
    hostName: hostname(),
    exists: (path) => existsSync(path),
    readText(path) {
      try {
        return readFileSync(path, "utf8");
      } catch (error) {
        if ((error as { code?: string }).code === "ENOENT") return undefined;
        throw error;
      }
    },
    async loadYaml() {
      const { parse } = await import("yaml");
      return (text) => parse(text, { maxAliasCount: 100 });
    },
  };
}
