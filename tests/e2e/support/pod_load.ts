/** Requests from inside a pod of an `ambit local`, all the while something is changed. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import type { MeshProcess } from "../../../scripts/demo/mesh_process.ts";

export interface LoadReport {
  readonly asked: number;
  /** Whatever was not answered with 200. */
  readonly failed: readonly string[];
}

export interface PodLoad {
  /** Resolves with what became of all requests. */
  stop(): Promise<LoadReport>;
}

/** One request after the other on a connection that stays, and beside it one on a new connection each, 50 times a second. */
const SCRIPT = `
  const { Agent, request } = await import("node:http");
  const { existsSync } = await import("node:fs");
  const [url, end] = JSON.parse(process.env.LOAD);
  const failed = [];
  let asked = 0;
  const ask = (agent) => new Promise((resolve) => {
    asked++;
    const sent = request(url, { agent, timeout: 5000 }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => text += part).on("end", () => {
        if (response.statusCode !== 200) failed.push(response.statusCode + " " + text.trim());
        resolve();
      });
    });
    sent.on("timeout", () => sent.destroy(new Error("no answer")));
    sent.on("error", (error) => { failed.push(error.message); resolve(); });
    sent.end();
  });
  const loop = async (agent) => {
    while (!existsSync(end)) {
      await ask(agent);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await Promise.all([loop(new Agent({ keepAlive: true, maxSockets: 1 })), loop(false)]);
  console.log(JSON.stringify({ asked, failed }));
  process.exit(0);
`;

/** `directory`: for a file by which it learns of its end. */
export function startPodLoad(mesh: MeshProcess, pod: string, url: string, directory: string): PodLoad {
  const end = join(directory, `load-${Math.random().toString(36).slice(2)}`);
  const flags = process.versions.deno === undefined ? ["-e"] : ["eval", "--no-check"];
  const load = JSON.stringify([url, end]);
  const running = mesh.exec(pod, ["env", `LOAD=${load}`, process.execPath, ...flags, SCRIPT]);
  return {
    async stop() {
      await writeFile(end, "");
      const { code, stdout, stderr } = await running;
      if (code !== 0) throw new Error(`the load ended with ${code}: ${stderr}`);
      return JSON.parse(stdout) as LoadReport;
    },
  };
}
