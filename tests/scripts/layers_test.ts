import assert from "node:assert/strict";
import { test } from "node:test";
import { checkLayers } from "../../scripts/layers.ts";

function check(path: string, text: string): string[] {
  return checkLayers([{ path, text }]);
}

test("layers: imports may point down", () => {
  const allowed: [string, string][] = [
    ["mod.ts", 'import { main } from "./src/cli/main.ts";'],
    ["src/cli/main.ts", 'const { runZtunnel } = await import("../roles/ztunnel.ts");'],
    ["src/roles/ztunnel.ts", 'import { a } from "../ztunnel/a.ts";\nimport { b } from "../platform/b.ts";'],
    ["src/ztunnel/a.ts", 'import type { ZtunnelConfig } from "../cli/config.ts";'],
    ["src/net/a.ts", 'import type { Ip } from "../mesh/ip.ts";\nimport { h2 } from "../protocol/http2/mod.ts";'],
    ["src/net/a.ts", 'import { b } from "./b.ts";\nimport process from "node:process";\nimport { Hono } from "hono";'],
    ["src/control/xds/a.ts", 'import { X } from "../../gen/x_pb.ts";'],
    ["src/local/self.ts", 'const entry = new URL("../../mod.ts", import.meta.url);'],
  ];
  for (const [path, text] of allowed) assert.deepEqual(check(path, text), [], `${path}: ${text}`);
});

test("layers: a planted violation is found, with its place", () => {
  const violations: [string, string, RegExp][] = [
    ["src/net/a.ts", '\nimport { b } from "../hbone/b.ts";', /^src\/net\/a\.ts:2: net is below hbone$/],
    ["src/net/a.ts", 'import {\n  a,\n  b,\n} from "../hbone/b.ts";', /^src\/net\/a\.ts:4: net is below hbone$/],
    ["src/net/a.ts", 'export * from "../hbone/b.ts";', /net is below hbone/],
    ["src/net/a.ts", 'import "../hbone/b.ts";', /net is below hbone/],
    ["src/net/a.ts", 'import type { B } from "../hbone/b.ts";', /net is below hbone/],
    ["src/net/a.ts", 'const b = await import("../hbone/b.ts");', /net is below hbone/],
    ["src/net/a.ts", 'new Worker(new URL("../roles/worker.ts", import.meta.url));', /net is below roles/],
    ["src/ztunnel/a.ts", 'import { b } from "../admin/b.ts";', /ztunnel and admin do not import each other/],
    ["src/identity/a.ts", 'import { b } from "../telemetry/b.ts";', /identity and telemetry do not import each other/],
    ["src/mesh/a.ts", 'import { b } from "../net/b.ts";', /mesh is pure: it imports nothing of net/],
    ["src/protocol/a.ts", 'import { b } from "../mesh/b.ts";', /protocol does not import mesh/],
    ["src/cli/main.ts", 'import { runZtunnel } from "../roles/ztunnel.ts";', /imported dynamically/],
    ["src/cli/config.ts", 'import { b } from "./b.ts";', /imports nothing/],
    ["src/ztunnel/a.ts", 'import { X } from "../gen/x_pb.ts";', /generated code is for src\/control\//],
    ["src/ztunnel/a.ts", 'import { x } from "../../tests/support/x.ts";', /is outside of src/],
    ["src/odd/a.ts", 'import { x } from "../net/x.ts";', /package odd has no place/],
    ["src/net/a.ts", 'import { dlopen } from "bun:ffi";', /"bun:ffi" belongs to a runtime/],
    ["src/net/a.ts", "const a = Deno.pid;", /src\/net\/a\.ts:1: runtime globals and FFI/],
    ["src/net/a.ts", 'const a = globalThis["Bun"];', /runtime globals/],
    ["src/net/a.ts", "const a = Bun.version;", /runtime globals/],
    ["src/net/a.ts", "const a = lib.dlopen(x);", /runtime globals and FFI/],
  ];
  for (const [path, text, pattern] of violations) {
    const found = check(path, text);
    assert.ok(found.some((line) => pattern.test(line)), `${path}: ${text}\n${found.join("\n")}`);
  }
});

test("layers: comments and strings are not code", () => {
  for (
    const text of [
      '// import { b } from "../hbone/b.ts";',
      '/*\n import { b } from "../hbone/b.ts";\n Deno.exit() */',
      'const a = "Deno.exit"; // Bun.version',
      'const url = "https://x"; const b = 1;',
    ]
  ) assert.deepEqual(check("src/net/a.ts", text), [], text);
});

test("layers: the platform may do what others may not", () => {
  const text = 'import { dlopen } from "bun:ffi";\nconst lib = Deno.dlopen("libc.so.6", {});';
  assert.deepEqual(check("src/platform/bun.ts", text), []);
});
