/**
 * The one thing redirection needs from its host: a tool run inside a pod's network namespace. How to enter is the caller's
 * affair (nsenter, setns). Only the network namespace changes: the tool sees this process's files.
 */

/** What a tool did. `code` is null when a signal ended it. */
export interface ToolResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `command` in the namespace at `netns` with `input` on its standard input; rejects only if it cannot be started. */
export type RunInNetns = (netns: string, command: readonly string[], input: string) => Promise<ToolResult>;

/** Like `run`, and rejects unless the tool exits with 0. Resolves with its standard output. */
export async function runOrThrow(
  run: RunInNetns,
  netns: string,
  command: readonly string[],
  input = "",
): Promise<string> {
  const { code, stdout, stderr } = await run(netns, command, input);
  if (code === 0) return stdout;
  throw new Error(`"${command.join(" ")}" in ${netns} failed (${code ?? "killed"}): ${stderr.trim() || "no message"}`);
}
