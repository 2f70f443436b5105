/**
 * The outer half of `ambit local`: runs ambit once more inside process, mount and network namespaces of its own (and,
 * without root, a user namespace), and waits for it.
 *
 * That makes cleaning up the kernel's work: the inner process is init of its process namespace, so when it ends, by whatever
 * cause, every process below it is killed and with them go the mounts, network namespaces, devices and rules. The inner
 * process watches its standard input: when this half dies, even by SIGKILL, it sees the end of it and leaves.
 */
import { spawn } from "node:child_process";
import { runTool } from "./run_tool.ts";

/** Set for the inner half: the run's directory. */
export const SANDBOX_VARIABLE = "AMBIT_LOCAL_DIRECTORY";

const NAMESPACES = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"];
/** Becomes root of a user namespace of its own. */
const AS_USER = ["--user", "--map-root-user"];

/** How long the inner half may take to end its processes after it was asked to, in milliseconds. */
const STOP_TIMEOUT_MS = 15_000;

export interface SandboxOptions {
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** Handed on as {@link SANDBOX_VARIABLE}. */
  readonly directory: string;
}

/** Resolves with the exit code once everything inside has ended. Rejects when the machine does not allow namespaces. */
export async function runInSandbox({ command, directory }: SandboxOptions): Promise<number> {
  const namespaces = await chooseNamespaces();
  const child = spawn("unshare", [...namespaces, "--", ...command], {
    stdio: ["pipe", "inherit", "inherit"],
    env: { ...process.env, [SANDBOX_VARIABLE]: directory },
  });
  child.stdin.on("error", () => {});

  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = 0;
  const stop = () => {
    child.stdin.end();
    // unshare kills the inner half when it is killed itself. A second signal is a person who does not want to wait.
    if (++asked > 1) child.kill("SIGKILL");
    timer ??= setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code, signal) => resolve(code ?? 128 + (SIGNAL_NUMBERS[signal ?? ""] ?? 0)));
    });
  } finally {
    clearTimeout(timer);
    for (const signal of signals) process.off(signal, stop);
  }
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 };

/** Calls `stop` once, when the outer half asks for the end or is gone. For the inner half. */
export function onSandboxStop(stop: () => void): void {
  let stopped = false;
  const once = () => {
    if (stopped) return;
    stopped = true;
    stop();
  };
  process.stdin.on("end", once);
  process.stdin.on("error", once);
  process.stdin.resume();
  // A terminal sends Ctrl-C to both halves.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, once);
}

async function chooseNamespaces(): Promise<readonly string[]> {
  const attempts = process.getuid?.() === 0 ? [NAMESPACES, [...AS_USER, ...NAMESPACES]] : [[...AS_USER, ...NAMESPACES]];
  let words = "";
  for (const attempt of attempts) {
    const { code, stderr } = await runTool(["unshare", ...attempt, "--", "true"]);
    if (code === 0) return attempt;
    words ||= stderr.trim();
  }
  throw new Error(
    `this machine does not let ambit make namespaces: ${words}. Run it as root, or allow user namespaces ` +
      `(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)`,
  );
}
