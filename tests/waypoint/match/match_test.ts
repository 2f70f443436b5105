import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestHead } from "../../../src/waypoint/http/exchange.ts";
import { compileHeader, compileQuery, queryValue } from "../../../src/waypoint/match/head.ts";
import { compileMetadata } from "../../../src/waypoint/match/metadata.ts";
import { compilePath, withoutQuery } from "../../../src/waypoint/match/path.ts";
import { compileText } from "../../../src/waypoint/match/text.ts";
import type { HeaderMatch, MetadataMatch, PathMatch, TextMatch } from "../../../src/waypoint/spec/mod.ts";

const HEAD: RequestHead = {
  method: "GET",
  path: "/a/b?q=1&q=2&e=%41+b&empty=&flag",
  authority: "Shop.example:80",
  scheme: "http",
  version: "1.1",
  headers: ["x-one", "1", "x-two", "a", "x-two", "b", "x-empty", ""],
  upgrade: "",
  contentLength: 0,
  expectsContinue: false,
  wireBytes: 0,
};

test("text match: every kind", () => {
  const cases: readonly [TextMatch, string, boolean][] = [
    [{ kind: "exact", text: "Ab", ignoreCase: false }, "ab", false],
    [{ kind: "exact", text: "Ab", ignoreCase: true }, "aB", true],
    [{ kind: "prefix", text: "a", ignoreCase: false }, "ab", true],
    [{ kind: "suffix", text: "B", ignoreCase: true }, "ab", true],
    [{ kind: "contains", text: "b", ignoreCase: false }, "abc", true],
    [{ kind: "regex", pattern: "a+" }, "aab", false],
    [{ kind: "regex", pattern: "a|ab" }, "ab", true],
    [{ kind: "regex", pattern: "(?i)AB" }, "ab", true],
    [{ kind: "exact", text: "\u0130", ignoreCase: true }, "i\u0307", false],
  ];
  for (const [match, text, wanted] of cases) assert.equal(compileText(match)(text), wanted, JSON.stringify(match));
});

test("text match: an expression that would hang a backtracking engine is judged at once", () => {
  const test = compileText({ kind: "regex", pattern: "(a*)*b" });
  assert.equal(test("a".repeat(5000)), false);
});

test("text match: a verdict that is kept is that of its own text", () => {
  const test = compileText({ kind: "regex", pattern: "spiffe://.+/ns/a/.*" });
  for (let i = 0; i < 3000; i++) assert.equal(test(`spiffe://td/ns/${i % 2 === 0 ? "a" : "b"}/sa/${i}`), i % 2 === 0);
  for (let i = 0; i < 3000; i++) assert.equal(test(`spiffe://td/ns/${i % 2 === 0 ? "a" : "b"}/sa/${i}`), i % 2 === 0);
});

const header = (match: Partial<HeaderMatch> & { name: string }): boolean =>
  compileHeader({ value: undefined, invert: false, missingIsEmpty: false, ...match })(HEAD);
const exact = (text: string): TextMatch => ({ kind: "exact", text, ignoreCase: false });

test("header match: presence, values, several of a name, inversion, absence", () => {
  assert.equal(header({ name: "x-one" }), true);
  assert.equal(header({ name: "x-none" }), false);
  assert.equal(header({ name: "x-none", invert: true }), true);
  assert.equal(header({ name: "x-one", value: exact("1") }), true);
  assert.equal(header({ name: "x-two", value: exact("a,b") }), true);
  assert.equal(header({ name: "x-one", value: exact("1"), invert: true }), false);
  assert.equal(header({ name: "x-none", value: exact("1"), invert: true }), false);
  assert.equal(header({ name: "x-none", value: exact("1"), invert: true, missingIsEmpty: true }), true);
  assert.equal(header({ name: "x-none", value: exact("") }), false);
  assert.equal(header({ name: "x-none", value: exact(""), missingIsEmpty: true }), true);
  assert.equal(header({ name: "x-empty", value: exact("") }), true);
  assert.equal(header({ name: ":method", value: exact("GET") }), true);
  assert.equal(
    header({ name: ":authority", value: { kind: "exact", text: "shop.EXAMPLE:80", ignoreCase: true } }),
    true,
  );
});

test("query match: the first of a name, decoded; a plus sign is no space", () => {
  const query = (name: string, text?: string): boolean =>
    compileQuery({ name, value: text === undefined ? undefined : exact(text) })(HEAD);
  assert.equal(query("q", "1"), true);
  assert.equal(query("q", "2"), false);
  assert.equal(query("e", "A+b"), true);
  assert.equal(query("empty", ""), true);
  assert.equal(query("flag"), true);
  assert.equal(query("flag", ""), true);
  assert.equal(query("none"), false);
  assert.equal(queryValue("/a?b=1#c=2&d=3", "d"), undefined);
  assert.equal(queryValue("/a", "b"), undefined);
});

test("path match: every kind, with the query apart", () => {
  const path = (match: PathMatch, text: string): boolean => compilePath(match)(withoutQuery(text));
  const cases: readonly [PathMatch, string, boolean][] = [
    [{ kind: "exact", path: "/a", ignoreCase: false }, "/a?x", true],
    [{ kind: "exact", path: "/a", ignoreCase: false }, "/a/", false],
    [{ kind: "prefix", path: "/a", ignoreCase: false }, "/ab", true],
    [{ kind: "prefix", path: "/A", ignoreCase: true }, "/ab", true],
    [{ kind: "separated", path: "/a", ignoreCase: false }, "/ab", false],
    [{ kind: "separated", path: "/a", ignoreCase: false }, "/a/b?c", true],
    [{ kind: "separated", path: "/a", ignoreCase: false }, "/a?c", true],
    [{ kind: "regex", pattern: "/re/[0-9]+/.*" }, "/re/12/x?y", true],
    [{ kind: "regex", pattern: "/re/[0-9]+/.*" }, "/x/re/12/x", false],
    [{ kind: "template", template: "/a/{*}/c" }, "/a/b/c", true],
    [{ kind: "template", template: "/a/{*}/c" }, "/a/b/b/c", false],
    [{ kind: "template", template: "/a/{*}/c" }, "/a//c", false],
    [{ kind: "template", template: "/a/{**}" }, "/a/b/c", true],
    [{ kind: "template", template: "/a/{**}" }, "/a/", true],
    [{ kind: "template", template: "/a/**/z" }, "/a/b/c/z", true],
    [{ kind: "template", template: "/a.b/*" }, "/aXb/c", false],
  ];
  for (const [match, text, wanted] of cases) {
    assert.equal(path(match, text), wanted, `${JSON.stringify(match)} ${text}`);
  }
});

test("path match: a template that cannot be read is no template", () => {
  for (const template of ["a/b", "/a/{*", "/a/b*c", "/a/[b]"]) {
    assert.throws(() => compilePath({ kind: "template", template }), /template/, template);
  }
});

test("metadata match: claims of a JWT, own keys alone", () => {
  const metadata = new Map([["envoy.filters.http.jwt_authn", {
    payload: { iss: "me", groups: ["a", "b"], admin: true, level: 3, none: null, deep: { er: "x" } },
  }]]);
  const match = (path: string[], value: MetadataMatch["value"], invert = false): boolean =>
    compileMetadata({ namespace: "envoy.filters.http.jwt_authn", path: ["payload", ...path], value, invert })(metadata);
  assert.equal(match(["iss"], { kind: "text", match: exact("me") }), true);
  assert.equal(match(["groups"], { kind: "any", of: { kind: "text", match: exact("b") } }), true);
  assert.equal(match(["groups"], { kind: "text", match: exact("b") }), false);
  assert.equal(match(["admin"], { kind: "bool", value: true }), true);
  assert.equal(match(["level"], { kind: "number", from: 3, below: 3 }), true);
  assert.equal(match(["level"], { kind: "number", from: 1, below: 3 }), false);
  assert.equal(match(["none"], { kind: "null" }), true);
  assert.equal(match(["deep", "er"], { kind: "text", match: exact("x") }), true);
  assert.equal(match(["missing"], { kind: "text", match: exact("x") }, true), true);
  assert.equal(match(["constructor"], { kind: "present", present: true }), false);
  assert.equal(match(["iss", "length"], { kind: "present", present: true }), false);
  assert.equal(
    match(["iss"], { kind: "or", of: [{ kind: "bool", value: true }, { kind: "text", match: exact("me") }] }),
    true,
  );
});
