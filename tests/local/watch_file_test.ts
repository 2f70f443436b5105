import assert from "node:assert/strict";
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { watchFile } from "../../src/local/watch_file.ts";

async function withWatch(
  prepare: (directory: string) => Promise<string>,
  body: (directory: string, path: string, next: () => Promise<string>) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "ambit-watch-"));
  const path = await prepare(directory);
  const contents: string[] = [];
  let wake = () => {};
  const watch = await watchFile(path, "first", (text) => {
    contents.push(text);
    wake();
    return Promise.resolve();
  });
  const next = async () => {
    while (contents.length === 0) await new Promise<void>((resolve) => wake = resolve);
    return contents.shift()!;
  };
  try {
    await body(directory, path, next);
    assert.deepEqual(contents, []);
  } finally {
    watch.close();
    await rm(directory, { recursive: true });
  }
}

async function plain(directory: string): Promise<string> {
  await writeFile(join(directory, "mesh.yaml"), "first");
  return join(directory, "mesh.yaml");
}

test("watch_file: tells a file written in place, and one renamed over it", async () => {
  await withWatch(plain, async (directory, path, next) => {
    await writeFile(path, "second");
    assert.equal(await next(), "second");
    await writeFile(join(directory, "new"), "third");
    await rename(join(directory, "new"), path);
    assert.equal(await next(), "third");
  });
});

test("watch_file: tells nothing when the content is the same, and survives a removed file", async () => {
  await withWatch(plain, async (_, path, next) => {
    await writeFile(path, "first");
    await rm(path);
    await writeFile(path, "second");
    assert.equal(await next(), "second");
  });
});

test("watch_file: tells a change that came between the first read and the watch", async () => {
  const prepare = async (directory: string) => {
    const path = await plain(directory);
    await writeFile(path, "meanwhile");
    return path;
  };
  await withWatch(prepare, async (_, _path, next) => assert.equal(await next(), "meanwhile"));
});

test("watch_file: follows a symbolic link into another directory", async () => {
  const prepare = async (directory: string) => {
    await mkdir(join(directory, "data"));
    await writeFile(join(directory, "data", "real.yaml"), "first");
    await symlink(join("data", "real.yaml"), join(directory, "mesh.yaml"));
    return join(directory, "mesh.yaml");
  };
  await withWatch(prepare, async (directory, _, next) => {
    await writeFile(join(directory, "data", "real.yaml"), "second");
    assert.equal(await next(), "second");
  });
});
