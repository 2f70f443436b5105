import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePath } from "../../../src/waypoint/match/path.ts";
import { commonPath, RouteIndex } from "../../../src/waypoint/match/route_index.ts";
import type { PathMatch } from "../../../src/waypoint/spec/mod.ts";

const segment = fc.constantFrom("a", "b", "ab", "A", "", "a.b", "x-1");
const path = fc.array(segment, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join("/")}`);
const pathMatch: fc.Arbitrary<PathMatch> = fc.oneof(
  fc.record({
    kind: fc.constantFrom("exact" as const, "prefix" as const),
    path,
    ignoreCase: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("separated" as const),
    path: path.map((text) => text.replace(/\/+$/, "")),
    ignoreCase: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("regex" as const),
    pattern: fc.tuple(path, fc.constantFrom("", ".*", "/.*", "?", "*", "+", "[a-z]+", "|/b", "/(a|b)"))
      .map(([start, end]) => `${start.replaceAll(".", "\\.")}${end}`),
  }),
  fc.record({
    kind: fc.constant("template" as const),
    template: fc.tuple(path, fc.constantFrom("", "/{*}", "/**", "/{**}")).map((parts) => parts.join("")),
  }),
);

test("route index: finds what a search from the first route on finds", () => {
  fc.assert(
    fc.property(
      fc.array(pathMatch, { maxLength: 12 }),
      fc.array(path, { minLength: 1, maxLength: 6 }),
      (matches, paths) => {
        const routes = matches.map((match) => ({ match, test: compilePath(match) }));
        const index = new RouteIndex(routes, ({ match }) => match);
        for (const wanted of paths) {
          const found = index.find(wanted, ({ test }) => test(wanted));
          assert.equal(found, routes.find(({ test }) => test(wanted)), wanted);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test("route index: a request asks the routes of its own path and above, not a thousand others", () => {
  const routes = Array.from(
    { length: 1000 },
    (_, i): PathMatch => ({ kind: "separated", path: `/api/v1/r${i}`, ignoreCase: false }),
  );
  const index = new RouteIndex(
    [...routes, { kind: "prefix", path: "/", ignoreCase: false } as const],
    (match) => match,
  );
  let asked = 0;
  const found = index.find("/api/v1/r777/x", (match) => {
    asked++;
    return compilePath(match)("/api/v1/r777/x");
  });
  assert.equal(found, routes[777]);
  assert.equal(asked, 1);
});

test("route index: what a match must begin with", () => {
  const cases: readonly [PathMatch, string][] = [
    [{ kind: "exact", path: "/a/b", ignoreCase: false }, "/a/b"],
    [{ kind: "exact", path: "/a/", ignoreCase: false }, "/a"],
    [{ kind: "prefix", path: "/a/b", ignoreCase: false }, "/a"],
    [{ kind: "prefix", path: "/", ignoreCase: false }, ""],
    [{ kind: "separated", path: "/a/b", ignoreCase: false }, "/a/b"],
    [{ kind: "regex", pattern: "/a/b[0-9]+/.*" }, "/a"],
    [{ kind: "regex", pattern: "/a/b|/c" }, ""],
    [{ kind: "regex", pattern: "(?i)/a/b" }, ""],
    [{ kind: "regex", pattern: "/a/b/?" }, "/a"],
    [{ kind: "regex", pattern: ".*" }, ""],
    [{ kind: "template", template: "/a/b/{*}/c" }, "/a/b"],
  ];
  for (const [match, wanted] of cases) assert.equal(commonPath(match), wanted, JSON.stringify(match));
});
