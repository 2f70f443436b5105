/** Runs kubectl, and istioctl, which are used alike: to the end, with a limit, their words kept. */
import { spawn } from "node:child_process";

export interface KubectlOptions {
  readonly input?: string;
  /** Default a minute. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 60_000;

export class KubectlError extends Error {}

/** Resolves with what it prints; rejects with its words unless it exits with 0. */
export function kubectl(
  command: readonly string[],
  { input, timeoutMs = TIMEOUT_MS }: KubectlOptions,
): Promise<string> {
  const [file = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], timeout: timeoutMs, killSignal: "SIGKILL" });
    let [output, errors] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => errors += text);
    child.stdin.on("error", () => {});
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) return resolve(output);
      const words = args.filter((word) => !word.startsWith("--kubeconfig") && !word.endsWith(".conf")).join(" ");
      const how = code === null ? `killed after ${timeoutMs} ms` : `exit code ${code}`;
      reject(new KubectlError(`"${words}": ${(errors + output).trim() || how}`));
    });
    child.stdin.end(input ?? "");
  });
}
