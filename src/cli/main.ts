/**
 * From argv and environment to one running role. Roles are imported when chosen, so that a
 * process loads nothing of the others.
 */
import { buildCniConfig, buildCniStatusConfig } from "./cni_config.ts";
import { CNI_STATUS_HELP, cniOptions, cniStatusOptions } from "./cni_options.ts";
import { ROLE_NAMES, selectCommand } from "./command.ts";
import type { Command } from "./command.ts";
import type { CniStatusConfig, ExplainConfig, RoleConfig, RoleName } from "./config.ts";
import { UsageError } from "./errors.ts";
import { buildExplainConfig, EXPLAIN_HELP, explainOptions } from "./explain_options.ts";
import { formatRoleHelp, OVERVIEW } from "./help.ts";
import type { RoleHelp } from "./help.ts";
import type { Environment } from "./options.ts";
import { parseArguments } from "./options.ts";
import { buildLocalConfig, localOptions } from "./role_options.ts";
import { checkRuntimeEnvironment } from "./runtime_guard.ts";
import { roleModules } from "./role_modules.ts";
import { buildWaypointConfig } from "./waypoint_config.ts";
import { waypointOptions } from "./waypoint_options.ts";
import { buildZtunnelConfig } from "./ztunnel_config.ts";
import type { Host } from "./ztunnel_config.ts";
import { ztunnelOptions } from "./ztunnel_options.ts";

/** As for Go's and Rust's command lines. */
const EXIT_USAGE = 2;
const EXIT_FAILED = 1;

export interface MainInput {
  readonly argv: readonly string[];
  readonly env: Environment;
  /** The name the program was started by, without directory. */
  readonly programName: string;
  readonly host: Host;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** What a command line comes to, before anything of a role is loaded. */
export type Plan =
  | { readonly kind: "run"; readonly config: RoleConfig; readonly notes: readonly string[] }
  | { readonly kind: "print"; readonly text: string }
  | Extract<Command, { readonly kind: "usage" | "version" | "tool" }>;

const HELP: Readonly<Record<typeof ROLE_NAMES[number], RoleHelp>> = {
  ztunnel: {
    usage: "ambit ztunnel [flags]   (also: ambit proxy ztunnel)",
    summary: "The L4 node proxy of Istio's ambient mode: takes ztunnel's environment and serves its ports.",
    table: ztunnelOptions,
  },
  local: {
    usage: "ambit local [mesh.yaml] [flags]",
    summary: "A mesh on this machine: control plane, CA and data plane, with network namespaces as nodes and pods.",
    table: localOptions,
  },
  waypoint: {
    usage: "ambit waypoint [flags]   (also: ambit proxy waypoint --domain ... --serviceCluster ...)",
    summary: "The L7 proxy of a namespace.",
    table: waypointOptions,
  },
  cni: {
    usage: "ambit cni [flags]   (also: ambit install-cni)",
    summary: "The node agent: installs the CNI plugin and redirects the traffic of pods.",
    table: cniOptions,
  },
};

/** Runs what the command line asks for and gives the process's exit code. */
export async function main(input: MainInput): Promise<number> {
  let planned: Plan;
  try {
    planned = await plan(input);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    input.err(`ambit: ${error.message}\n`);
    return EXIT_USAGE;
  }
  switch (planned.kind) {
    case "print":
      input.out(planned.text);
      return 0;
    case "usage":
      input.err(OVERVIEW);
      return EXIT_USAGE;
    case "version":
      input.out((await roleModules.version()).versionText());
      return 0;
    case "tool":
      return await runTool(planned, input);
    case "run":
      for (const note of planned.notes) input.err(`ambit: ${note}\n`);
      try {
        return await run(planned.config);
      } catch (error) {
        input.err(`ambit ${planned.config.role}: ${describe(error, input.env)}\n`);
        return EXIT_FAILED;
      }
  }
}

async function runTool({ tool, rest }: Extract<Plan, { kind: "tool" }>, input: MainInput): Promise<number> {
  switch (tool) {
    case "echo":
      return await (await roleModules.echo()).runEcho(rest);
    case "local exec":
      return await (await roleModules.localExec()).runLocalExec(rest);
    case "explain": {
      let config: ExplainConfig;
      try {
        const parsed = parseArguments(rest, explainOptions);
        if (parsed.helpWanted) {
          input.out(formatRoleHelp(EXPLAIN_HELP));
          return 0;
        }
        config = buildExplainConfig(parsed);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        input.err(`ambit: ${error.message}\n`);
        return EXIT_USAGE;
      }
      return await (await roleModules.explain()).runExplain(config, input);
    }
    case "cni status": {
      let config: CniStatusConfig;
      try {
        const parsed = parseArguments(rest, cniStatusOptions);
        if (parsed.helpWanted) {
          input.out(formatRoleHelp(CNI_STATUS_HELP));
          return 0;
        }
        config = buildCniStatusConfig(parsed, input.env);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        input.err(`ambit: ${error.message}\n`);
        return EXIT_USAGE;
      }
      return await (await roleModules.cniStatus()).runCniStatus(config, input);
    }
  }
}

/** Istio's charts set RUST_BACKTRACE=1, so a failure in a cluster carries its stack. */
function describe(error: unknown, env: Environment): string {
  if (!(error instanceof Error)) return String(error);
  const backtrace = env["RUST_BACKTRACE"];
  const wanted = backtrace !== undefined && backtrace !== "0";
  return wanted ? error.stack ?? error.message : error.message;
}

/** @throws UsageError */
export async function plan(input: MainInput): Promise<Plan> {
  const command = selectCommand({
    argv: input.argv,
    programName: input.programName,
    cniCommand: input.env["CNI_COMMAND"],
  });
  switch (command.kind) {
    case "help":
      return { kind: "print", text: OVERVIEW };
    case "usage":
    case "version":
    case "tool":
      return command;
    case "role":
      return await planRole(command, input);
  }
}

async function planRole(command: Extract<Command, { kind: "role" }>, input: MainInput): Promise<Plan> {
  const { role, rest, tolerateUnknown } = command;
  if (role === "cni-plugin") return { kind: "run", config: Object.freeze({ role }), notes: [] };
  const parsed = parseArguments(rest, HELP[role].table, { tolerateUnknown });
  if (parsed.helpWanted) return { kind: "print", text: formatRoleHelp(HELP[role]) };
  if (role !== "local" && parsed.positionals.length > 0) {
    throw new UsageError(`unexpected argument ${JSON.stringify(parsed.positionals[0])}: ${role} takes only flags`);
  }
  const notes = [
    ...checkRuntimeEnvironment(input.env),
    ...parsed.ignored.map((flag) => `ignoring unknown flag ${JSON.stringify(flag)}`),
  ];
  return { kind: "run", config: await buildConfig(role, parsed, input), notes };
}

async function buildConfig(
  role: Exclude<RoleName, "cni-plugin">,
  parsed: ReturnType<typeof parseArguments>,
  { argv, env, host }: MainInput,
): Promise<RoleConfig> {
  switch (role) {
    case "ztunnel":
      return await buildZtunnelConfig(parsed, env, host, argv.join(" "));
    case "local":
      return buildLocalConfig(parsed, env, host);
    case "waypoint":
      return await buildWaypointConfig(parsed, env, host, argv.join(" "));
    case "cni":
      return buildCniConfig(parsed, env, host);
  }
}

async function run(config: RoleConfig): Promise<number> {
  switch (config.role) {
    case "ztunnel":
      return await (await roleModules.ztunnel()).runZtunnel(config);
    case "local":
      return await (await roleModules.local()).runLocal(config);
    case "cni":
      return await (await roleModules.cni()).runCni(config);
    case "cni-plugin":
      // mod.ts does the same without loading this module first.
      return await (await roleModules.cniPlugin()).runCniPlugin();
    case "waypoint":
      return await (await roleModules.waypoint()).runWaypoint(config);
  }
}
