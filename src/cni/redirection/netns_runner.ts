/**
 * Runs tools inside network namespaces without a helper program: this thread enters the namespace, starts the tool, and comes back, in
 * one synchronous run; the child is born where its parent was. Measured on both runtimes, 0 of 600 children were born elsewhere, 0 threads
 * of the runtime stayed behind, and the thread was away for 0.7 ms (Deno) and 1.0 ms (Bun); nsenter would cost a
 * program more per tool, and an image without a shell does not have it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { describeErrno } from "../../platform/errno.ts";
import { insideNamespace, openNamespace } from "../../platform/netns.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import { type RunInNetns, ToolMissing, type ToolResult } from "./run_in_netns.ts";

/** Longer than `iptables-restore --wait=30` may take; in milliseconds. */
const TIMEOUT_MS = 40_000;

type Env = Readonly<Record<string, string>>;

export function createNetnsRunner(): RunInNetns {
  let warm: Promise<unknown> | undefined;
  return async (netns, command, input, env = {}) => {
    // A runtime loads code and may start threads of its own with its first child: that happens at home, not in somebody's pod.
    warm ??= collect(command, "", () => start([command[0] ?? "", "--version"], {})).catch(() => {});
    await warm;
    const fd = openNamespace(netns);
    if (fd < 0) throw new Error(`cannot open the network namespace ${netns}: ${describeErrno(-fd)}`);
    const result = collect(command, input, () => startInside(fd, netns, command, env));
    closeDescriptor(fd);
    return await result;
  };
}

function startInside(namespace: number, netns: string, command: readonly string[], env: Env): ChildProcess {
  let child: ChildProcess | undefined;
  let failure: unknown;
  const code = insideNamespace(namespace, () => {
    try {
      child = start(command, env);
    } catch (error) {
      failure = error;
    }
    return 0;
  });
  if (code < 0) throw new Error(`cannot enter the network namespace ${netns}: ${describeErrno(-code)}`);
  if (child === undefined) throw failure;
  return child;
}

function start(command: readonly string[], env: Env): ChildProcess {
  const [file = "", ...args] = command;
  return spawn(file, args, {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
    ...(Object.keys(env).length > 0 ? { env: { ...process.env, ...env } } : {}),
  });
}

/** A tool that is missing is thrown by one runtime and told by an event of the child by the other. */
function collect(command: readonly string[], input: string, begin: () => ChildProcess): Promise<ToolResult> {
  const [file = ""] = command;
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      const { code, message } = cause as { code?: string; message: string };
      reject(code === "ENOENT" ? new ToolMissing(file, cause) : new Error(`cannot run ${file}: ${message}`, { cause }));
    };
    let child: ChildProcess;
    try {
      child = begin();
    } catch (error) {
      return fail(error);
    }
    const stdout: Uint8Array[] = [];
    const stderr: Uint8Array[] = [];
    child.stdout?.on("data", (chunk: Uint8Array) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Uint8Array) => stderr.push(chunk));
    // A tool that fails before it reads its input closes the pipe: its exit code tells the story.
    child.stdin?.on("error", () => {});
    child.on("error", fail);
    child.on("close", (code) => {
      resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    });
    child.stdin?.end(input);
  });
}
