/** Where the benchmark finds what it runs. */
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

/** A runtime as `deno task setup` installs it. */
export function tool(name: "deno" | "bun"): string {
  return join(ROOT, "node_modules/.bin", name);
}
