/** What this program is: for `ambit version`, the config dump and `istio_build`. */
import process from "node:process";
import manifest from "../../package.json" with { type: "json" };

/** Replaced by `deno task build`; absent when run from source. */
declare const AMBIT_GIT_REVISION: string | undefined;
declare const AMBIT_BUILD_PROFILE: string | undefined;

export interface BuildInfo {
  readonly version: string;
  readonly gitRevision: string;
  readonly buildProfile: string;
  /** `deno 2.9.6` or `bun 1.4.5`. */
  readonly runtime: string;
  /** `linux/x64`. */
  readonly platform: string;
}

export function buildInfo(): BuildInfo {
  const versions: Readonly<Record<string, string | undefined>> = process.versions;
  const runtime = (["deno", "bun"] as const).find((name) => versions[name] !== undefined);
  return {
    version: manifest.version,
    gitRevision: typeof AMBIT_GIT_REVISION === "string" ? AMBIT_GIT_REVISION : "unknown",
    buildProfile: typeof AMBIT_BUILD_PROFILE === "string" ? AMBIT_BUILD_PROFILE : "source",
    runtime: runtime === undefined ? "unknown" : `${runtime} ${versions[runtime]}`,
    platform: `${process.platform}/${process.arch}`,
  };
}

/** One line for a person. */
export function formatBuildInfo(info: BuildInfo): string {
  return `ambit ${info.version} (${info.gitRevision}, ${info.buildProfile}, ${info.runtime}, ${info.platform})`;
}
