/**
 * A tool run inside a pod's network namespace. How to enter is the caller's affair (setns in netns_runner.ts, nsenter). Only the network
 * namespace changes: the tool sees this process's files.
 */

/** What a tool did. `code` is null when a signal ended it. */
export interface ToolResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs `command` in the namespace at `netns` with `input` on its standard input, and `env` besides this process's environment;
 * rejects only if it cannot be started.
 */
export type RunInNetns = (
  netns: string,
  command: readonly string[],
  input: string,
  env?: Readonly<Record<string, string>>,
) => Promise<ToolResult>;

/** The tool is not there, which the caller may expect. */
export class ToolMissing extends Error {
  readonly tool: string;
  constructor(tool: string, cause: unknown) {
    const packageName = packageOf(tool);
    const hint = packageName === undefined ? "" : `; it comes with the package ${packageName}`;
    super(`cannot run ${tool}: there is no such program on the PATH${hint}`, { cause });
    this.name = "ToolMissing";
    this.tool = tool;
  }
}

/** Whether a tool could not be started because it is not installed, by whichever means it was run. */
export function isMissingTool(error: unknown): boolean {
  return error instanceof ToolMissing || error instanceof Error && /ENOENT|failed to execute/.test(error.message);
}

/** The Debian package a tool comes with. */
function packageOf(tool: string): string | undefined {
  if (/^ip6?tables/.test(tool)) return "iptables";
  const packages: Readonly<Record<string, string>> = {
    nft: "nftables",
    ipset: "ipset",
    ip: "iproute2",
    nsenter: "util-linux",
  };
  return packages[tool];
}

/** Like `run`, and rejects unless the tool exits with 0. Resolves with its standard output. */
export async function runOrThrow(
  run: RunInNetns,
  netns: string,
  command: readonly string[],
  input = "",
  env?: Readonly<Record<string, string>>,
): Promise<string> {
  const { code, stdout, stderr } = await run(netns, command, input, env);
  if (code === 0) return stdout;
  throw new Error(`"${command.join(" ")}" in ${netns} failed (${code ?? "killed"}): ${stderr.trim() || "no message"}`);
}
