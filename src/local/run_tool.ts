/**
 * Runs a system tool to its end. Its words are kept, so that a failure can be told in them.
 */
import { spawn } from "node:child_process";
import type { ToolResult } from "../cni/redirection/run_in_netns.ts";

/** The Debian package of each tool, for the message when it is missing. */
const PACKAGES: Readonly<Record<string, string>> = {
  ip: "iproute2",
  nft: "nftables",
  mount: "mount",
  nsenter: "util-linux",
  unshare: "util-linux",
};

/** Network tools answer at once or hang on a lock; in milliseconds. */
const TIMEOUT_MS = 30_000;

/** Runs `command` with `input` on its standard input. Rejects only if it cannot be started. */
export function runTool(command: readonly string[], input = ""): Promise<ToolResult> {
  const [file = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], timeout: TIMEOUT_MS, killSignal: "SIGKILL" });
    const stdout: Uint8Array[] = [];
    const stderr: Uint8Array[] = [];
    child.stdout.on("data", (chunk: Uint8Array) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Uint8Array) => stderr.push(chunk));
    // A tool that fails before it reads its input closes the pipe: its exit code tells the story.
    child.stdin.on("error", () => {});
    child.on("error", (cause) => {
      const hint = PACKAGES[file] === undefined ? "" : `; it comes with the package ${PACKAGES[file]}`;
      reject(new Error(`cannot run ${file}: ${cause.message}${hint}`));
    });
    child.on("close", (code) => {
      resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    });
    child.stdin.end(input);
  });
}

/** Runs `command` inside the network namespace at `netns`, with this process's files. */
export function runToolIn(netns: string, command: readonly string[], input = ""): Promise<ToolResult> {
  return runTool(["nsenter", `--net=${netns}`, "--", ...command], input);
}

/** Resolves with the standard output of `command`; rejects with its words unless it exits with 0. */
export async function tool(command: readonly string[], input = ""): Promise<string> {
  const { code, stdout, stderr } = await runTool(command, input);
  if (code === 0) return stdout;
  throw new Error(`"${command.join(" ")}" failed (${code ?? "killed"}): ${stderr.trim() || "no message"}`);
}
