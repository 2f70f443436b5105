/** What the plugin can load is bounded: it runs for every pod, several times. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const STATIC = /^[ \t]*(?:import|export)\b(?!\s*(?:type\b|\())(?:[^;"'`]*?\bfrom)?\s*["']([^"'\n]+)["']/gm;
const DYNAMIC = /\bimport\s*\(\s*["']([^"'\n]+)["']/g;

interface Graph {
  readonly files: ReadonlySet<string>;
  readonly packages: ReadonlySet<string>;
}

/** Modules reachable from a file; with `dynamic`, those too that are loaded only when wanted. */
function reach(entry: string, dynamic: boolean): Graph {
  const files = new Set<string>([entry]);
  const packages = new Set<string>();
  for (const file of files) {
    if (!file.endsWith(".ts")) continue;
    const text = readFileSync(join(ROOT, file), "utf8");
    const found = [...text.matchAll(STATIC), ...(dynamic ? text.matchAll(DYNAMIC) : [])];
    for (const [, specifier] of found) {
      if (specifier.startsWith(".")) files.add(normalize(join(dirname(file), specifier)));
      else packages.add(specifier);
    }
  }
  return { files, packages };
}

test("cni_plugin: the program loads nothing before it knows whether it is the plugin", () => {
  const { files, packages } = reach("mod.ts", false);
  assert.deepEqual([...files].sort(), ["mod.ts", "src/cli/plugin_call.ts", "src/cli/role_modules.ts"]);
  assert.deepEqual([...packages].sort(), ["node:path", "node:process"]);
});

test("cni_plugin: what is loaded at once is its own and small", () => {
  const { files, packages } = reach("src/roles/cni_plugin.ts", false);
  const foreign = [...files].filter((file) =>
    !/^src\/(cni\/(plugin\/)?[a-z_]+|mesh\/ip|roles\/cni_plugin)\.ts$/.test(file)
  );
  assert.deepEqual(foreign, []);
  assert.deepEqual([...packages].sort(), ["node:fs", "node:path", "node:process", "node:timers/promises"]);
});

test("cni_plugin: what it may load later is the Kubernetes client and its version", () => {
  const { files, packages } = reach("src/roles/cni_plugin.ts", true);
  const later = [...files].filter((file) => !reach("src/roles/cni_plugin.ts", false).files.has(file));
  const foreign = later.filter((file) =>
    !/^src\/(control\/kube|protocol\/http1)\/[a-z_]+\.ts$/.test(file) &&
    !["src/telemetry/build_info.ts", "package.json"].includes(file)
  );
  assert.deepEqual(foreign, []);
  const odd = [...packages].filter((name) => !name.startsWith("node:"));
  // Of a kubeconfig that somebody else wrote.
  assert.deepEqual(odd, ["yaml"]);
  assert.ok(!packages.has("node:worker_threads") && !packages.has("node:child_process"));
});
