/** The machine as the command line sees it. */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, hostname, networkInterfaces } from "node:os";
import type { Host } from "./ztunnel_config.ts";

const LINK_LOCAL = /^(169\.254\.|fe[89ab][0-9a-f]:)/i;

export function createHost(): Host {
  return {
    cpus: availableParallelism(),
    hostName: hostname(),
    addresses() {
      return Object.entries(networkInterfaces()).flatMap(([name, all]) =>
        (all ?? []).filter(({ internal, address }) => !internal && !LINK_LOCAL.test(address)).map(({ address }) => ({
          interface: name,
          ip: address.replace(/^::ffff:(?=[0-9.]+$)/i, ""),
        }))
      );
    },
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
