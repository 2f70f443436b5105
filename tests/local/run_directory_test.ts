import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createRunDirectory, listRuns } from "../../src/local/run_directory.ts";

async function withParent(body: (parent: string) => Promise<void>): Promise<void> {
  const parent = await mkdtemp(join(tmpdir(), "ambit-test-"));
  try {
    await body(parent);
  } finally {
    await rm(parent, { recursive: true });
  }
}

test("run_directory: is private, known while its process lives, and removed", async () => {
  await withParent(async (parent) => {
    const run = await createRunDirectory(parent);
    assert.equal((await stat(run.path)).mode & 0o777, 0o700);
    assert.deepEqual((await listRuns(parent)).map(({ path, alive }) => [path, alive]), [[run.path, true]]);
    await run.remove();
    assert.deepEqual(await listRuns(parent), []);
  });
});

test("run_directory: what a dead run left is removed by the next, a live one stays", async () => {
  await withParent(async (parent) => {
    const live = await createRunDirectory(parent);
    const dead = join(parent, "ambit-local-dead");
    await mkdir(join(dead, "netns"), { recursive: true });
    await writeFile(join(dead, "owner"), "999999999 1");
    // The pid is alive, but it began at another time: the number came again.
    const reused = join(parent, "ambit-local-reused");
    await mkdir(reused);
    const [pid, began] = (await readFile(join(live.path, "owner"), "utf8")).split(" ");
    await writeFile(join(reused, "owner"), `${pid} ${Number(began) - 1}`);

    const next = await createRunDirectory(parent);
    assert.deepEqual((await listRuns(parent)).map((run) => run.path).sort(), [live.path, next.path].sort());
  });
});

test("run_directory: one without an owner is left alone while it is young, and removed when it is old", async () => {
  await withParent(async (parent) => {
    const unowned = join(parent, "ambit-local-unowned");
    await mkdir(unowned);
    await (await createRunDirectory(parent)).remove();
    await stat(unowned);
    await utimes(unowned, 1_000_000, 1_000_000);
    await (await createRunDirectory(parent)).remove();
    await assert.rejects(stat(unowned), { code: "ENOENT" });
  });
});

test("run_directory: links and other things of that name are not touched", async () => {
  await withParent(async (parent) => {
    const precious = join(parent, "precious");
    await mkdir(precious);
    await writeFile(join(precious, "owner"), "999999999 1");
    await symlink(precious, join(parent, "ambit-local-link"));
    await writeFile(join(parent, "ambit-local-file"), "");
    await chmod(precious, 0o700);
    await (await createRunDirectory(parent)).remove();
    await stat(join(precious, "owner"));
    await stat(join(parent, "ambit-local-file"));
  });
});
