/**
 * Which role a command line asks for. One binary answers to its own subcommands, to `--role=NAME`,
 * and to the names and arguments by which Istio's charts start the originals.
 */
import type { RoleName } from "./config.ts";
import { nearest, shown, UsageError } from "./errors.ts";
import { isPluginCall, type ProgramCall } from "./plugin_call.ts";

export type Command =
  | {
    readonly kind: "role";
    readonly role: RoleName;
    /** What follows the role. */
    readonly rest: readonly string[];
    /** Istio's own form of the waypoint carries flags meant for Envoy. */
    readonly tolerateUnknown: boolean;
  }
  /** A small program of its own, with its own arguments. */
  | {
    readonly kind: "tool";
    readonly tool: "echo" | "local exec" | "explain" | "cni status";
    readonly rest: readonly string[];
  }
  | { readonly kind: "version" }
  | { readonly kind: "help" }
  /** Nothing was asked for. */
  | { readonly kind: "usage" };

/** Roles as a person names them. */
export const ROLE_NAMES = ["ztunnel", "cni", "waypoint", "local"] as const satisfies readonly RoleName[];

const COMMANDS = [...ROLE_NAMES, "proxy", "install-cni", "echo", "explain", "version", "help"];

/** @throws UsageError */
export function selectCommand(call: ProgramCall): Command {
  const { argv, programName } = call;
  if (isPluginCall(call)) return role("cni-plugin", argv);
  if (programName === "install-cni") return role("cni", argv);
  // Istio's ztunnel takes a missing first argument for `proxy`.
  if (programName === "ztunnel" && argv.length === 0) return role("ztunnel", []);

  const [first, ...rest] = argv;
  switch (first) {
    case undefined:
      return { kind: "usage" };
    case "--help":
    case "-h":
    case "help":
      if (rest[0] === "explain") return { kind: "tool", tool: "explain", rest: ["--help"] };
      return rest[0] !== undefined && isRole(rest[0]) ? role(rest[0], ["--help"]) : { kind: "help" };
    case "version":
    case "--version":
      return { kind: "version" };
    case "echo":
      return { kind: "tool", tool: "echo", rest };
    case "explain":
      return { kind: "tool", tool: "explain", rest };
    case "local":
      return rest[0] === "exec" ? { kind: "tool", tool: "local exec", rest: rest.slice(1) } : role("local", rest);
    case "cni":
      return rest[0] === "status" ? { kind: "tool", tool: "cni status", rest: rest.slice(1) } : role("cni", rest);
    case "install-cni":
      return role("cni", rest);
    case "proxy":
      return selectProxy(rest);
  }
  if (isRole(first)) return role(first, rest);
  if (first.startsWith("-")) return selectByFlag(argv);
  const near = nearest(first, COMMANDS);
  const hint = near === undefined ? `the commands are ${COMMANDS.join(", ")}` : `did you mean ${near}?`;
  throw new UsageError(`unknown command ${shown(first)}: ${hint}`);
}

function isRole(name: string): name is typeof ROLE_NAMES[number] {
  return ROLE_NAMES.some((role) => role === name);
}

function role(name: RoleName, rest: readonly string[], tolerateUnknown = false): Command {
  return { kind: "role", role: name, rest, tolerateUnknown };
}

/** `proxy ztunnel` of Istio's ztunnel chart, `proxy waypoint …` of its waypoint template. */
function selectProxy(rest: readonly string[]): Command {
  const [kind, ...flags] = rest;
  if (kind === undefined) return role("ztunnel", []);
  if (kind === "ztunnel") return role("ztunnel", flags);
  if (kind === "waypoint") return role("waypoint", flags, true);
  if (kind.startsWith("-")) return role("ztunnel", rest);
  throw new UsageError(`unknown proxy ${shown(kind)}: must be ztunnel or waypoint`);
}

/** `--role=NAME` or `--role NAME`, anywhere among the flags. */
function selectByFlag(argv: readonly string[]): Command {
  const at = argv.findIndex((argument) => argument === "--role" || argument.startsWith("--role="));
  if (at < 0) throw new UsageError(`no role: name one (${ROLE_NAMES.join(", ")}) before ${shown(argv[0])}`);
  const joined = argv[at].startsWith("--role=");
  const name = joined ? argv[at].slice("--role=".length) : argv[at + 1];
  if (name === undefined || !isRole(name)) {
    throw new UsageError(`flag --role: ${shown(name ?? "")} must be one of ${ROLE_NAMES.join(", ")}`);
  }
  return role(name, [...argv.slice(0, at), ...argv.slice(at + (joined ? 1 : 2))]);
}
