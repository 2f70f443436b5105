/** Requests that go on while something else happens: `app load` in a pod, ended through its standard input. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { within } from "../../e2e/support/wait.ts";
import { type Cluster, exec } from "./cluster.ts";

export interface LoadReport {
  readonly requests: number;
  readonly failed: number;
  /** Connections, of a load that keeps them. */
  readonly dialled: number;
  readonly slowestMs: number;
  readonly forMs: number;
  readonly failures: readonly { readonly atMs: number; readonly tookMs: number; readonly error: string }[];
}

const START_TIMEOUT_MS = 15_000;
const END_TIMEOUT_MS = 15_000;

export class Load {
  readonly #ended: Promise<LoadReport>;
  readonly #end: () => void;

  private constructor(ended: Promise<LoadReport>, end: () => void) {
    this.#ended = ended;
    this.#end = end;
  }

  /** Resolves after the first request. `keep`: all on one connection, until the server announces that it closes it. */
  static async start(cluster: Cluster, from: string, url: string, { keep = false } = {}): Promise<Load> {
    const [namespace, place, ...rest] = exec(from).filter((word) => word !== "exec");
    const { binaries, kubernetes } = cluster;
    const command = ["--kubeconfig", kubernetes.kubeconfig, namespace!, place!, "exec", "-i", ...rest];
    const child = spawn(binaries.kubectl, [...command, "/app", "load", ...(keep ? ["-keep"] : []), url], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    let [output, errors] = ["", ""];
    child.stdin.on("error", () => {});
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => errors += text);
    const ended = new Promise<LoadReport>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => {
        if (code === 0) resolve(JSON.parse(output) as LoadReport);
        else reject(new Error(`the load from ${from} ended (${code}): ${errors.trim()}`));
      });
    });
    // Whoever ends the load hears of it; a failure before that is not unhandled.
    ended.catch(() => {});
    await within(START_TIMEOUT_MS, `the first request of a load: ${errors}`, (resolve, reject) => {
      child.stderr.on("data", () => {
        if (errors.includes("started")) resolve();
      });
      ended.then(() => resolve(), reject);
    });
    return new Load(ended, () => child.stdin.end());
  }

  end(): Promise<LoadReport> {
    this.#end();
    return within(END_TIMEOUT_MS, "the end of a load", (resolve, reject) => void this.#ended.then(resolve, reject));
  }
}

/**
 * Runs `action` under traffic from the mesh's client to its server, on fresh connections and on one that lasts; none may fail. `dialled`: an HTTP
 * proxy between may ask for other connections, as HTTP knows how to do, and there are at most so many.
 */
export async function undisturbed(cluster: Cluster, action: () => Promise<void>, dialled = 1): Promise<void> {
  const loads = [
    await Load.start(cluster, "mesh/client", "http://server/"),
    await Load.start(cluster, "mesh/client", "http://server/", { keep: true }),
  ];
  let problem: unknown;
  await action().catch((error) => problem = error);
  const reports = await Promise.all(loads.map((load) => load.end()));
  if (problem !== undefined) throw problem;
  for (const [index, report] of reports.entries()) {
    const which = index === 0 ? "fresh connections" : "the connection that lasts";
    assert.equal(report.failed, 0, `${which}: ${JSON.stringify(report)}`);
    assert.ok(report.dialled <= dialled, `${which}: ${JSON.stringify(report)}`);
  }
}
