import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { normalizePath } from "../../../src/waypoint/match/normalize.ts";

const BASE = { normalizePath: true, mergeSlashes: false, escapedSlashes: "keep" } as const;

test("normalize: one meaning, one path", () => {
  const cases: readonly [string, string][] = [
    ["/", "/"],
    ["/a/./b", "/a/b"],
    ["/a/../b", "/b"],
    ["/a/b/..", "/a/"],
    ["/a/b/.", "/a/b/"],
    ["/a/%2e%2e/b", "/b"],
    ["/a/%2E/b", "/a/b"],
    ["/%61dmin", "/admin"],
    ["/a%2fb", "/a%2Fb"],
    ["/a\\b\\..\\c", "/a/c"],
    ["/a//b", "/a//b"],
    ["/a/..a/b", "/a/..a/b"],
    ["/a?x=/../b", "/a?x=/../b"],
    ["/a/../b?c=%61#d", "/b?c=%61#d"],
    ["/%zz%4", "/%zz%4"],
    ["*", "*"],
  ];
  for (const [path, wanted] of cases) assert.deepEqual(normalizePath(path, BASE), { kind: "path", path: wanted }, path);
});

test("normalize: a path that leaves the root or hides a NUL is refused", () => {
  for (const path of ["/..", "/../a", "/a/../../b", "/%2e%2e/", "/a%00b"]) {
    assert.equal(normalizePath(path, BASE).kind, "refused", path);
  }
});

test("normalize: slashes merge and unescape as Istio's settings say", () => {
  assert.deepEqual(normalizePath("/a//b///c", { ...BASE, mergeSlashes: true }), { kind: "path", path: "/a/b/c" });
  const forward = { normalizePath: true, mergeSlashes: true, escapedSlashes: "unescape and forward" } as const;
  assert.deepEqual(normalizePath("/a%2F%5cb", forward), { kind: "path", path: "/a/b" });
  assert.deepEqual(normalizePath("/public/x%2f..%2f..%2fadmin", forward), { kind: "path", path: "/admin" });
  assert.equal(normalizePath("/x%2f..%2f..%2f..", forward).kind, "refused");
  assert.equal(normalizePath("/a%2Fb", { ...forward, escapedSlashes: "reject" }).kind, "refused");
  assert.deepEqual(normalizePath("/a%2Fb", { ...forward, escapedSlashes: "unescape and redirect" }), {
    kind: "redirect",
    path: "/a/b",
  });
});

test("normalize: nothing is done unless asked for", () => {
  const off = { normalizePath: false, mergeSlashes: false, escapedSlashes: "keep" } as const;
  assert.deepEqual(normalizePath("/a/../%2e//b", off), { kind: "path", path: "/a/../%2e//b" });
});

test("normalize: a normal path stays as it is, whatever it was made of", () => {
  const parts = fc.constantFrom("a", "..", ".", "%2e", "%2E%2e", "%41", "%2f", "\\", "", "b%", "%25", "%00", "~");
  fc.assert(
    fc.property(
      fc.array(parts, { maxLength: 8 }),
      fc.constantFrom("keep", "unescape and forward"),
      (segments, escapedSlashes) => {
        const options = { normalizePath: true, mergeSlashes: true, escapedSlashes } as const;
        const once = normalizePath(`/${segments.join("/")}`, options);
        if (once.kind !== "path") return;
        assert.ok(!/(^|\/)\.\.?(\/|$)/.test(once.path), once.path);
        assert.deepEqual(normalizePath(once.path, options), once);
      },
    ),
    { numRuns: 5000 },
  );
});
