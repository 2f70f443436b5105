import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type TarEntry, tarLength, writeTar } from "../cluster/support/tar.ts";

const directory = mkdtempSync(join(tmpdir(), "cluster-tar-"));
after(() => rmSync(directory, { recursive: true, force: true }));

function unpack(name: string, entries: readonly TarEntry[]): string {
  const archive = join(directory, `${name}.tar`);
  // A chunk is valid until the next only.
  writeFileSync(archive, Buffer.concat(Array.from(writeTar(entries), (chunk) => Buffer.from(chunk))));
  assert.equal(lstatSync(archive).size, tarLength(entries));
  const { status, stderr } = spawnSync("tar", ["-xpf", archive, "-C", directory], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return directory;
}

test("cluster tar: the system's tar unpacks files, folders and links with their modes", () => {
  const source = join(directory, "source");
  writeFileSync(source, "from a file");
  const place = unpack("kinds", [
    { kind: "directory", path: "d", mode: 0o750 },
    { kind: "bytes", path: "d/bytes", mode: 0o640, content: Buffer.from("from memory") },
    { kind: "file", path: "d/file", mode: 0o755, source },
    { kind: "link", path: "d/link", target: "../somewhere" },
  ]);
  assert.equal(readFileSync(join(place, "d/bytes"), "utf8"), "from memory");
  assert.equal(readFileSync(join(place, "d/file"), "utf8"), "from a file");
  assert.equal(readlinkSync(join(place, "d/link")), "../somewhere");
  assert.equal(lstatSync(join(place, "d")).mode & 0o777, 0o750);
  assert.equal(lstatSync(join(place, "d/bytes")).mode & 0o777, 0o640);
  assert.equal(lstatSync(join(place, "d/file")).mode & 0o777, 0o755);
});

test("cluster tar: contents of every length keep their place", () => {
  const sizes = [0, 1, 511, 512, 513, (1 << 20) + 1];
  const entries = sizes.map((size): TarEntry => {
    const source = join(directory, `source-${size}`);
    writeFileSync(source, Buffer.from(Array.from({ length: size }, (_, index) => index % 251)));
    return { kind: "file", path: `size-${size}`, mode: 0o644, source };
  });
  const place = unpack("sizes", entries);
  for (const size of sizes) {
    assert.deepEqual(readFileSync(join(place, `size-${size}`)), readFileSync(join(place, `source-${size}`)), `${size}`);
  }
});

test("cluster tar: a long path is cut at a slash, and one that cannot be is refused", () => {
  const path = `${"long-folder/".repeat(12)}file`;
  const place = unpack("long", [{ kind: "bytes", path, mode: 0o644, content: Buffer.from("x") }]);
  assert.equal(readFileSync(join(place, path), "utf8"), "x");
  const without: TarEntry = { kind: "bytes", path: "x".repeat(101), mode: 0o644, content: Buffer.from("x") };
  assert.throws(() => [...writeTar([without])], /too long/);
});
