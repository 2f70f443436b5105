import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const script = (name: string) => fileURLToPath(new URL(`../../scripts/${name}`, import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "istiod-binaries-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** A `go` that is a shell script; each call is a line of `calls`. */
function installGo(name: string, build: string): { readonly path: string; readonly calls: () => string[] } {
  const path = join(directory, name);
  mkdirSync(join(path, "modules"), { recursive: true });
  mkdirSync(join(path, "modules/config/crd/standard"), { recursive: true });
  for (
    const file of [
      "manifests/charts/base/files/crd-all.gen.yaml",
      "manifests/charts/istio-control/istio-discovery/values.yaml",
    ]
  ) {
    mkdirSync(join(path, "modules", file, ".."), { recursive: true });
    writeFileSync(join(path, "modules", file), "");
  }
  const templates = join(path, "modules/manifests/charts/istio-control/istio-discovery/files");
  mkdirSync(templates, { recursive: true });
  for (const file of ["waypoint.yaml", "kube-gateway.yaml"]) writeFileSync(join(templates, file), "");
  const log = join(path, "calls");
  const script = `#!/bin/sh
echo "$*" >> "${log}"
case "$1" in
  env) echo "$FAKE_GO_VERSION" ;;
  list) echo "${join(path, "modules")}" ;;
  build) ${build} ;;
esac
`;
  writeFileSync(join(path, "go"), script);
  chmodSync(join(path, "go"), 0o755);
  return { path, calls: () => readFileSync(log, "utf8").trim().split("\n") };
}

/** Runs the script with that `go` and a cache of its own. */
function build(goPath: string, cache: string, version = "go1.26.8", name = "istiod_build.ts") {
  const flags = process.versions.deno === undefined ? [] : ["run", "--quiet", "--no-check", "-A"];
  const env = { HOME: directory, PATH: goPath, XDG_CACHE_HOME: cache, FAKE_GO_VERSION: version };
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, script(name)], { env, encoding: "utf8" });
  return { status, text: stdout + stderr };
}

/** Makes every program that it is asked for: the names at the end of the packages' paths, as Go does. */
const MAKES_ALL = `
    for last in "$@"; do :; done
    while [ "$1" != -o ]; do shift; done
    out="$2"; shift 2
    for package in "$@"; do name="\${package##*/}"; case "$name" in v3) name=server ;; esac; echo x > "$out$name"; done`;

/** Names of what is kept. */
function modulesIn(cache: string): string[] {
  return readdirSync(join(cache, "ambit-istiod")).map((name) => name.replace(/-[0-9a-f]{16}$/, "")).sort();
}

test("istiod_binaries: builds each module once, below XDG_CACHE_HOME, and then finds all of it", () => {
  const go = installGo("good", MAKES_ALL);
  const cache = join(directory, "cache-good");
  const first = build(go.path, cache);
  assert.equal(first.status, 0, first.text);
  assert.equal(go.calls().filter((call) => call.startsWith("build")).length, 4);
  assert.deepEqual(modulesIn(cache), ["cni", "etcd", "istio", "kubernetes"]);
  const second = build(go.path, cache);
  assert.equal(second.status, 0, second.text);
  assert.equal(go.calls().filter((call) => call.startsWith("build")).length, 4);
  // Another version of Go makes other programs.
  assert.equal(build(go.path, cache, "go1.27.0").status, 0);
  assert.equal(go.calls().filter((call) => call.startsWith("build")).length, 8);
});

test("cluster_binaries: builds the node's programs besides, and takes Istio's charts as they are", () => {
  const go = installGo("cluster", MAKES_ALL);
  const cache = join(directory, "cache-cluster");
  assert.equal(build(go.path, cache).status, 0);
  const { status, text } = build(go.path, cache, undefined, "cluster_build.ts");
  assert.equal(status, 0, text);
  assert.deepEqual(modulesIn(cache), ["cluster", "cni", "etcd", "istio", "istio-cni", "kubernetes", "kubernetes-node"]);
  assert.equal(go.calls().filter((call) => call.startsWith("build")).length, 7);
  const place = readdirSync(join(cache, "ambit-istiod")).find((name) => name.startsWith("istio-cni-"));
  const charts = join(cache, "ambit-istiod", place ?? "", "charts");
  assert.deepEqual(readdirSync(charts).sort(), ["base", "istio-control"]);
  assert.equal(readFileSync(join(charts, "base/files/crd-all.gen.yaml"), "utf8"), "");
});

test("istiod_binaries: a build that fails, or makes less than it should, leaves nothing half", () => {
  for (
    const [name, script, wanted] of [["failing", "echo no space left; exit 1", /no space left/], [
      "lazy",
      "true",
      /made no/,
    ]] as const
  ) {
    const go = installGo(name, script);
    const cache = join(directory, `cache-${name}`);
    const { status, text } = build(go.path, cache);
    assert.equal(status, 1);
    assert.match(text, wanted);
    assert.deepEqual(readdirSync(join(cache, "ambit-istiod")), []);
  }
});

test("istiod_binaries: without Go, or with an old one, it says which is needed", () => {
  const none = build("/nonexistent", join(directory, "cache-none"));
  assert.equal(none.status, 1);
  assert.match(none.text, /install Go 1\.26/);
  const old = build(installGo("old", "exit 1").path, join(directory, "cache-old"), "go1.25.1");
  assert.equal(old.status, 1);
  assert.match(old.text, /go1\.25\.1 is too old/);
});
