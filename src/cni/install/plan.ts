/**
 * Which file the plugin's entry goes into, what the file should say, and whether it does: reference cni.md 1.6. Pure: everything is decided from
 * what is in the directory now, so an agent that was restarted goes on where the last one was.
 */
import { join } from "node:path";
import type { CniInstallConfig } from "../../cli/config.ts";
import type { ConfigDir, FoundConfig } from "./config_dir.ts";
import { configText, type Entry, entryProblem, isOnlyOurs, isSame, withEntry, withoutEntry } from "./conflist.ts";

export interface PlanSettings {
  readonly config: Pick<
    CniInstallConfig,
    "netDir" | "confName" | "chained" | "ownedConfig" | "ownedConfigFile" | "confGroupRead"
  >;
  readonly ambientEnabled: boolean;
  /** With its `cniVersion`. */
  readonly entry: Entry;
}

export type Plan =
  /** There is no configuration to join yet. */
  | { readonly kind: "wait"; readonly why: string }
  | ReadyPlan;

export interface ReadyPlan {
  readonly kind: "write";
  readonly path: string;
  readonly text: Uint8Array;
  readonly mode: number;
  /** What the file replaces: to be removed when it is there. */
  readonly replaces: readonly string[];
  /** What is wrong now; undefined: nothing is to be written. */
  readonly problem: string | undefined;
  /** Why the runtime does not use the file although it is right; nothing that writing it again would change. */
  readonly preempted: string | undefined;
  /** As `preempted`, where somebody may have wanted it so. */
  readonly warning: string | undefined;
}

export type InstallMode = "chained" | "owned" | "standalone";

const STANDALONE_NAME = "YYY-istio-cni.conf";

export function installMode({ config, ambientEnabled }: Pick<PlanSettings, "config" | "ambientEnabled">): InstallMode {
  if (!config.chained) return "standalone";
  return config.ownedConfig && ambientEnabled ? "owned" : "chained";
}

export function makePlan(directory: ConfigDir, settings: PlanSettings): Plan {
  switch (installMode(settings)) {
    case "standalone":
      return planStandalone(directory, settings);
    case "owned":
      return planOwned(directory, settings);
    case "chained":
      return planChained(directory, settings);
  }
}

/** The file that is ours alone in this mode. */
export function ownFileName(
  { config, ambientEnabled }: Pick<PlanSettings, "config" | "ambientEnabled">,
): string | undefined {
  switch (installMode({ config, ambientEnabled })) {
    case "standalone":
      return config.confName ?? STANDALONE_NAME;
    case "owned":
      return config.ownedConfigFile;
    case "chained":
      return undefined;
  }
}

function planStandalone(directory: ConfigDir, settings: PlanSettings): Plan {
  const { config, entry } = settings;
  const name = config.confName ?? STANDALONE_NAME;
  const found = directory.valid.find((file) => file.name === name);
  const content = name.endsWith(".conflist")
    ? { name: entry["name"], cniVersion: entry["cniVersion"], plugins: [entry] }
    : entry;
  return {
    kind: "write",
    path: join(config.netDir, name),
    text: configText(content),
    mode: found?.mode ?? newFileMode(settings),
    replaces: [],
    problem: found === undefined
      ? `${name} is missing or no CNI configuration`
      : isSame(found.config.content, content)
      ? undefined
      : `${name} was changed`,
    preempted: undefined,
    // Somebody, Multus for example, refers to the file by its name or its network.
    warning: undefined,
  };
}

function planChained(directory: ConfigDir, settings: PlanSettings): Plan {
  const { config, entry } = settings;
  const primary = choosePrimary(directory, settings);
  if (primary.kind === "wait") return primary;
  const { file } = primary;
  const name = file.name.replace(/\.conf$/, ".conflist");
  const first = directory.valid[0].name;
  const isFirst = first === file.name || first === name;
  // An agent of the other mode wrote it, and would be followed rather than the network it copied.
  const owned = file.name === config.ownedConfigFile
    ? undefined
    : directory.valid.find((other) => isOwnedFile(other, settings));
  const converted = name === file.name ? [] : [file.path];
  return {
    kind: "write",
    path: join(config.netDir, name),
    text: configText(withEntry(file.config, entry)),
    mode: file.mode,
    replaces: [...converted, ...(owned === undefined ? [] : [owned.path])],
    problem: file.config.kind === "conf"
      ? `${file.name} is a single plugin and becomes the list ${name}`
      : inFile(file.name, entryProblem(file.config, entry)) ??
        (owned === undefined ? undefined : `${owned.name} is left from an agent with a configuration of its own`),
    preempted: undefined,
    warning: isFirst || owned?.name === first
      ? undefined
      : `${file.name} is set by CNI_CONF_NAME, but ${first} comes first: a runtime that uses the first file bypasses the mesh`,
  };
}

function planOwned(directory: ConfigDir, settings: PlanSettings): Plan {
  const { config, entry } = settings;
  const primary = choosePrimary(directory, settings);
  if (primary.kind === "wait") return primary;
  const name = config.ownedConfigFile;
  const found = directory.valid.find((file) => file.name === name);
  const content = withEntry(primary.file.config, entry);
  const before = directory.valid.find((file) => file.name < name);
  return {
    kind: "write",
    path: join(config.netDir, name),
    text: configText(content),
    mode: found?.mode ?? newFileMode(settings),
    replaces: [],
    problem: found === undefined
      ? `${name} is missing or no CNI configuration`
      : inFile(name, entryProblem(found.config, entry)) ??
        (isSame(found.config.content, content) ? undefined : `${name} is not ${primary.file.name} with our entry`),
    preempted: before === undefined
      ? undefined
      : `${name} has a lower priority than ${before.name}, which the runtime uses instead: new pods bypass the mesh; rename one of them ` +
        "(ISTIO_OWNED_CNI_CONFIG_FILENAME)",
    warning: undefined,
  };
}

type Primary =
  | { readonly kind: "found"; readonly file: FoundConfig }
  | { readonly kind: "wait"; readonly why: string };

/** The network that pods have without us. */
function choosePrimary(directory: ConfigDir, settings: PlanSettings): Primary {
  const { config, entry } = settings;
  const usable = directory.valid.filter((file) => !isOnlyOurs(file.config, entry));
  const others = usable.filter((file) => !isOwnedFile(file, settings));
  const wanted = config.confName;
  if (wanted !== undefined) {
    const names = [wanted, otherExtension(wanted)];
    const file = names.map((name) => usable.find((file) => file.name === name)).find((file) => file !== undefined);
    if (file !== undefined && !isTheOwnedOne(file, settings)) return { kind: "found", file };
    const why = directory.skipped.find(({ name }) => names.includes(name));
    const reason = why === undefined ? "" : ` (${why.name}: ${why.why})`;
    return { kind: "wait", why: `CNI_CONF_NAME ${wanted} is not in ${config.netDir} yet${reason}` };
  }
  // Without any other, what an agent of the other mode copied is the network.
  const file = others[0] ?? (installMode(settings) === "owned" ? undefined : usable[0]);
  if (file !== undefined) return { kind: "found", file };
  const skipped = directory.skipped.map(({ name, why }) => `${name}: ${why}`).join("; ");
  return {
    kind: "wait",
    why:
      `there is no valid CNI configuration in ${config.netDir} yet${
        skipped === "" ? "" : ` (${skipped})`
      }: is the cluster's network ` +
      "plugin installed?",
  };
}

/** It is the owned file, whatever mode we are in now. */
function isOwnedFile(file: FoundConfig, { config, entry }: PlanSettings): boolean {
  return file.name === config.ownedConfigFile && withoutEntry(file.config, entry) !== undefined;
}

function isTheOwnedOne(file: FoundConfig, settings: PlanSettings): boolean {
  return installMode(settings) === "owned" && file.name === settings.config.ownedConfigFile;
}

function otherExtension(name: string): string {
  return name.endsWith(".conflist") ? name.slice(0, -"list".length) : name.endsWith(".conf") ? `${name}list` : name;
}

function newFileMode({ config }: PlanSettings): number {
  return config.confGroupRead ? 0o640 : 0o600;
}

function inFile(name: string, problem: string | undefined): string | undefined {
  return problem === undefined ? undefined : `${name}: ${problem}`;
}
