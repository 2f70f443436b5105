/**
 * The private directory of one run of `ambit local`: sockets, the hosts file, the namespaces' files. It goes with the run;
 * what a killed run left is taken away by the next.
 *
 * Namespaces and processes need no such care: they live in the run's own process and mount namespace (sandbox.ts).
 */
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PREFIX = "ambit-local-";

export interface RunDirectory {
  readonly path: string;
  remove(): Promise<void>;
}

/** Makes the directory (mode 0700), after removing those of this user's dead runs. */
export async function createRunDirectory(parent = tmpdir()): Promise<RunDirectory> {
  for (const left of await listRuns(parent)) {
    if (!left.alive) await rm(left.path, { recursive: true, force: true });
  }
  const path = await mkdtemp(join(parent, PREFIX)); // mkdtemp gives mode 0700
  await writeFile(join(path, "owner"), await processKey(process.pid) ?? "");
  await mkdir(join(path, "netns"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

export interface FoundRun {
  readonly path: string;
  readonly alive: boolean;
}

/** This user's runs, newest last. */
export async function listRuns(parent = tmpdir()): Promise<readonly FoundRun[]> {
  const runs: (FoundRun & { readonly sinceMs: number })[] = [];
  for (const name of await readdir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(parent, name);
    const stat = await lstat(path).catch(() => undefined);
    // The parent is open to everybody: another user's directory, or a link, is none of ours.
    if (stat === undefined || !stat.isDirectory() || stat.uid !== process.getuid?.()) continue;
    const owner = await readFile(join(path, "owner"), "utf8").catch(() => undefined);
    // Between mkdtemp and the owner file a run has no owner yet: it is left alone for a while.
    const alive = owner === undefined || owner === ""
      ? Date.now() - stat.mtimeMs < 10_000
      : await processKey(Number(owner.split(" ")[0])) === owner;
    runs.push({ path, alive, sinceMs: stat.birthtimeMs });
  }
  return runs.sort((a, b) => a.sinceMs - b.sinceMs);
}

/** Names a process for as long as the machine runs: pids come again, but not with the same start time. */
async function processKey(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  // Field 22 of proc(5), counted behind the command name, which may hold blanks.
  const startTime = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return startTime === undefined ? undefined : `${pid} ${startTime}`;
}
