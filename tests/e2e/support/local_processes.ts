/** What an `ambit local` started, as the machine sees it. */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import process from "node:process";
import type { MeshProcess } from "../../../scripts/demo/mesh_process.ts";

/** The processes that `mesh` started, by their environment; outside numbers. */
export async function processesOf(mesh: MeshProcess): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const environment = await readFile(`/proc/${name}/environ`, "utf8").catch(() => "");
    if (!environment.includes(`TMPDIR=${mesh.temporary}`)) continue;
    found.push({ pid: Number(name), command: await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "") });
  }
  return found;
}

/** The kernel ends the processes of a dead run one after the other; this waits until it is through. */
export async function waitUntilGone(mesh: MeshProcess): Promise<void> {
  const deadline = performance.now() + 20_000;
  while ((await processesOf(mesh)).length > 0) {
    assert.ok(performance.now() < deadline, `still there: ${JSON.stringify(await processesOf(mesh))}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
