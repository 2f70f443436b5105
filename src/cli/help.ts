/** Help texts, made from the option tables: every flag with its environment variable and default. */
import type { Option, OptionTable, PrefixOption } from "./options.ts";
import { isPrefixOption } from "./options.ts";

export const OVERVIEW = `ambit: an Istio ambient data plane in one binary

Usage: ambit ROLE [flags]

Roles:
  ztunnel             L4 node proxy          (also: ambit proxy ztunnel)
  cni                 node agent             (also: ambit install-cni; run as istio-cni it is the CNI plugin)
  waypoint            L7 proxy               (also: ambit proxy waypoint --domain ... --serviceCluster ...)
  local [mesh.yaml]   a mesh on this machine: control plane, CA and data plane, no cluster

Other:
  ambit local exec    runs a command in a pod of the mesh that is up
  ambit cni status    asks the node agent that runs here which pods are captured, and why others are not
  ambit explain       asks a running ztunnel whether a connection would be allowed, and why
  ambit echo          a small HTTP server that says who asked, for trying things out
  ambit version       what this is
  ambit ROLE --help   every flag of a role with its environment variable and default
  --role=ROLE         the same as naming the role first
`;

const WIDTH = 100;

export interface RoleHelp {
  readonly usage: string;
  readonly summary: string;
  readonly table: OptionTable;
}

export function formatRoleHelp(help: RoleHelp): string {
  const lines = [`Usage: ${help.usage}`, "", ...wrap(help.summary, ""), ""];
  lines.push("Flags. A flag wins over its environment variable, a variable over the default.", "");
  for (const option of Object.values(help.table)) {
    lines.push(...(isPrefixOption(option) ? formatPrefix(option) : formatOption(option)));
  }
  lines.push("  --help", "      Show this.", "");
  return lines.join("\n");
}

function formatOption(option: Option<unknown>): string[] {
  const head = `  --${option.flag}=${option.metavar}`;
  const facts: string[] = [];
  if (option.flagAliases.length > 0) facts.push(`also ${option.flagAliases.map((alias) => `--${alias}`).join(", ")}`);
  facts.push(option.env.length > 0 ? `env ${option.env.join(", then ")}` : "no variable");
  facts.push(option.fallbackText === "" ? "no default" : `default ${option.fallbackText}`);
  return [head, ...wrap(option.help, "      "), ...wrap(`[${facts.join("; ")}]`, "      ")];
}

function formatPrefix(option: PrefixOption): string[] {
  const facts = `[env ${option.envPrefix}<NAME>=VALUE; no default]`;
  return [`  --${option.flag}=${option.metavar}`, ...wrap(option.help, "      "), `      ${facts}`];
}

function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    if (line.length + word.length + 1 > WIDTH && line !== indent) {
      lines.push(line.trimEnd());
      line = indent;
    }
    line += line === indent ? word : ` ${word}`;
  }
  return [...lines, line];
}
