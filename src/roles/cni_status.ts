/**
 * `ambit cni status`: asks the node agent that runs here about the pods of the node, over its socket in the run directory.
 * Exit code 0: every pod is as it should be; 1: some are not; 2: nobody answers.
 */
import { request } from "node:http";
import { join } from "node:path";
import type { CniStatusConfig } from "../cli/config.ts";
import { ADMIN_SOCKET_NAME, type AgentReport, formatAgentReport, isSettled } from "../cni/agent/status.ts";

const EXIT_UNSETTLED = 1;
const EXIT_UNANSWERED = 2;
const ANSWER_TIMEOUT_MS = 10_000;
/** A node has some hundred pods, each of some hundred bytes. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** Where the text goes. */
export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export async function runCniStatus(config: CniStatusConfig, { out, err }: Output): Promise<number> {
  const socket = join(config.runDir, ADMIN_SOCKET_NAME);
  let report: AgentReport;
  try {
    const { status, text } = await ask(socket, "/debug/pods");
    if (status !== 200) throw new Error(`it answered ${status}: ${text.trim()}`);
    report = JSON.parse(text);
  } catch (error) {
    err(`ambit cni status: no node agent answers at ${socket}: ${explain(error)}\n`);
    return EXIT_UNANSWERED;
  }
  const { namespace } = config;
  const pods = report.pods.filter((pod) => namespace === undefined || pod.namespace === namespace);
  const shown = { ...report, pods };
  out(config.json ? JSON.stringify(shown, null, 2) + "\n" : formatAgentReport(shown));
  return pods.every(isSettled) ? 0 : EXIT_UNSETTLED;
}

function explain(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  const text = error instanceof Error ? error.message : String(error);
  if (code === "ENOENT") {
    return "there is no such socket; run it in the agent's container, or name its directory with --cni-agent-run-dir";
  }
  if (code === "ECONNREFUSED") return "the agent that made the socket is gone";
  if (code === "EACCES" || code === "EPERM") return "only the agent's own user may ask; run it as root";
  return text;
}

function ask(socketPath: string, path: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, agent: false, timeout: ANSWER_TIMEOUT_MS }, (response) => {
      const chunks: string[] = [];
      let size = 0;
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) call.destroy(new Error("the answer is too long"));
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: chunks.join("") }));
      response.on("error", reject);
    });
    call.on("timeout", () => call.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s`)));
    call.on("error", reject);
    call.end();
  });
}
