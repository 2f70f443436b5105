/**
 * `ambit explain --from NAMESPACE/SERVICEACCOUNT --to IP:PORT`: asks the ztunnel that runs here what would become of a
 * connection, and prints it for a person or as JSON. Exit code 0: allowed; 1: denied, or denied by some of the possible ends;
 * 2: the question is wrong, or nobody answers it.
 */
import { request } from "node:http";
import type { ExplainConfig } from "../cli/config.ts";
import type { Explanation } from "../mesh/explanation.ts";
import { formatExplanation } from "./explain_text.ts";

const EXIT_DENIED = 1;
const EXIT_UNANSWERED = 2;
const ANSWER_TIMEOUT_MS = 10_000;
/** An answer of 32 ends with 50 rules of each policy is far smaller. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** Where the text goes. */
export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export async function runExplain(options: ExplainConfig, { out, err }: Output): Promise<number> {
  const query = new URLSearchParams({ from: options.from, to: options.to });
  let answer: { readonly status: number; readonly text: string };
  try {
    answer = await get(options.address, `/debug/explain?${query}`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    err(
      `ambit explain: no ztunnel answers at http://${options.address}: ${why}; ` +
        "run it where the ztunnel runs, or name its admin port with --address\n",
    );
    return EXIT_UNANSWERED;
  }
  if (answer.status !== 200) {
    err(`ambit explain: ${answer.text.trim() || `the ztunnel answered ${answer.status}`}\n`);
    return EXIT_UNANSWERED;
  }
  let explanation: Explanation;
  try {
    explanation = JSON.parse(answer.text);
  } catch {
    err(`ambit explain: what answers at http://${options.address} is no ztunnel of ambit\n`);
    return EXIT_UNANSWERED;
  }
  out(options.json ? answer.text : formatExplanation(explanation));
  return explanation.outcome === "allowed" ? 0 : EXIT_DENIED;
}

function get(address: string, path: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const call = request(`http://${address}${path}`, { agent: false, timeout: ANSWER_TIMEOUT_MS }, (response) => {
      const chunks: Uint8Array[] = [];
      let size = 0;
      response.on("data", (chunk: Uint8Array) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) call.destroy(new Error("the answer is too long"));
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: joined(chunks, size) }));
      response.on("error", reject);
    });
    call.on("timeout", () => call.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s`)));
    call.on("error", reject);
    call.end();
  });
}

function joined(chunks: readonly Uint8Array[], size: number): string {
  const all = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return new TextDecoder().decode(all);
}
