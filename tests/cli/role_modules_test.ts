/** A process reads the modules of its own role alone, and every role is found. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { roleModules } from "../../src/cli/role_modules.ts";
import { filesBelow, ROOT, run, tool } from "../../scripts/support/tools.ts";

/** Of `deno info --json`; types are in it too, but not read at a start. */
interface ModuleGraph {
  readonly roots: readonly string[];
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly { readonly code?: { readonly specifier?: string } }[];
  }[];
}

function readAtStart({ roots, modules }: ModuleGraph): Set<string> {
  const known = new Map(modules.map((module) => [module.specifier, module.dependencies ?? []]));
  const reached = new Set<string>(roots);
  for (const specifier of reached) {
    for (const { code } of known.get(specifier) ?? []) {
      if (code?.specifier !== undefined) reached.add(code.specifier);
    }
  }
  return reached;
}

test("role modules: what Deno reads before the first line holds no role", async () => {
  const info = await run([tool("deno"), "info", "--json", "mod.ts"], { show: false });
  assert.equal(info.code, 0, info.output);
  const read = readAtStart(JSON.parse(info.output.slice(info.output.indexOf("{"))) as ModuleGraph);
  const own = [...read].filter((specifier) => specifier.startsWith(`file://${ROOT}/src/`));
  assert.deepEqual(own.filter((specifier) => /\/src\/(?:roles|waypoint|ztunnel|cni|gen)\//.test(specifier)), []);
  assert.ok(own.length > 5, "the command line itself is in it");
});

test("role modules: each can be loaded, and none is left out", async () => {
  const text = readFileSync(join(ROOT, "src/cli/role_modules.ts"), "utf8");
  // A helper of roles exports no `run…` and is loaded by them.
  const files = filesBelow("src/roles", ".ts").filter((path) =>
    !path.endsWith("worker.ts") &&
    /^export (?:async )?function (?:run[A-Z]|versionText)/m.test(readFileSync(join(ROOT, path), "utf8"))
  );
  assert.ok(files.length >= 8, files.join());
  for (const path of files) assert.ok(text.includes(`"../${path.slice("src/".length)}" as string`), path);
  const { versionText } = await roleModules.version();
  assert.match(versionText(), /^ambit /);
  for (const load of Object.values(roleModules)) assert.ok(Object.keys(await load()).length > 0);
});
