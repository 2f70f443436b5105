import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { encodePprof, type PprofThread } from "../../src/protocol/pprof.ts";

const SETTINGS = { startMs: Date.UTC(2026, 0, 2), durationMs: 1500, periodNs: 10_000_000 };
const node = (parent: number, name: string, cpuNs: number, line = 7) => ({
  parent,
  name,
  url: name.startsWith("(") ? "" : `file:///${name}.ts`,
  line,
  cpuNs,
});
const THREADS: readonly PprofThread[] = [
  { name: "main", nodes: [node(-1, "(root)", 0), node(0, "serve", 20_000_000), node(1, "render", 40_000_000)] },
  { name: "worker-0", nodes: [node(-1, "(root)", 0), node(0, "render", 5_000_000)] },
];

/** Fields of a message by number, as raw values. */
function fields(bytes: Uint8Array): Map<number, (number | Uint8Array)[]> {
  const found = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1;; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    let value: number | Uint8Array = varint();
    if ((tag & 7) === 2) {
      const end: number = at + value;
      value = bytes.subarray(at, end);
      at = end;
    }
    found.set(tag >> 3, [...found.get(tag >> 3) ?? [], value]);
  }
  return found;
}

test("pprof: stacks, values, labels and names are where the format has them", () => {
  const profile = fields(encodePprof(THREADS, SETTINGS));
  const strings = (profile.get(6) as Uint8Array[]).map((text) => new TextDecoder().decode(text));
  assert.equal(strings[0], "");
  assert.deepEqual([profile.get(9), profile.get(10), profile.get(12)], [
    [Date.UTC(2026, 0, 2) * 1e6],
    [1.5e9],
    [10_000_000],
  ]);
  const functions = new Map((profile.get(5) as Uint8Array[]).map((bytes) => {
    const entry = fields(bytes);
    return [entry.get(1)![0] as number, strings[entry.get(2)![0] as number]];
  }));
  const samples = (profile.get(2) as Uint8Array[]).map((bytes) => {
    const sample = fields(bytes);
    const label = fields(sample.get(3)![0] as Uint8Array);
    return {
      stack: [...sample.get(1)![0] as Uint8Array].map((id) => functions.get(id)),
      thread: strings[label.get(2)![0] as number],
      key: strings[label.get(1)![0] as number],
    };
  });
  assert.deepEqual(samples, [
    { stack: ["serve", "[main]"], thread: "main", key: "thread" },
    { stack: ["render", "serve", "[main]"], thread: "main", key: "thread" },
    { stack: ["render", "[worker-0]"], thread: "worker-0", key: "thread" },
  ]);
});

test("pprof: a stack that refers to itself ends", () => {
  const bytes = encodePprof([{ name: "t", nodes: [{ ...node(0, "loop", 1) }] }], SETTINGS);
  assert.ok(bytes.length < 5_000);
});

const hasGo = spawnSync("go", ["version"]).status === 0;

// Where Go is not installed there is nothing to compare with: the tests need none.
const withGo = hasGo ? test : undefined;
withGo?.("pprof: go's own tool reads it", () => {
  const directory = mkdtempSync(join(tmpdir(), "pprof-"));
  try {
    const path = join(directory, "profile.pb.gz");
    writeFileSync(path, gzipSync(encodePprof(THREADS, SETTINGS)));
    const { stdout, stderr, status } = spawnSync("go", ["tool", "pprof", "-top", path], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /Duration: 1\.50s, Total samples = 65ms/);
    assert.match(stdout, /45ms .* render/);
    assert.match(stdout, /60ms .*\[main\]/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
