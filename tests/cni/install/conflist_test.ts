import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  configText,
  entryProblem,
  isSame,
  type JsonObject,
  type NetworkConfig,
  readNetworkConfig,
  withEntry,
  withoutEntry,
} from "../../../src/cni/install/conflist.ts";
import { BRIDGE, ENTRY, LIST } from "./support.ts";

const encode = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const readList = (value: unknown) => readNetworkConfig(encode(value), "x.conflist");
const golden = (name: string) => readFileSync(new URL(`./golden/${name}`, import.meta.url), "utf8");
const text = (content: JsonObject) => new TextDecoder().decode(configText(content));

describe("conflist: reading", () => {
  test("what the runtime would refuse is refused, with the reason", () => {
    const cases: [string, unknown, RegExp][] = [
      ["a.conflist", "", /it is empty/],
      ["a.conflist", "{", /it is not JSON/],
      ["a.conflist", "[]", /no JSON object/],
      ["a.conflist", "null", /no JSON object/],
      ["a.conflist", { cniVersion: "1.0.0", plugins: [{ type: "a" }] }, /no "name"/],
      ["a.conflist", { name: "a", plugins: [{ type: "a" }] }, /no "cniVersion"/],
      ["a.conflist", { name: "a", cniVersion: "1.0.0" }, /no plugins/],
      ["a.conflist", { name: "a", cniVersion: "1.0.0", plugins: [] }, /no plugins/],
      ["a.conflist", { name: "a", cniVersion: "1.0.0", plugins: {} }, /no plugins/],
      ["a.conflist", { name: "a", cniVersion: "1.0.0", plugins: [{ type: "a" }, {}] }, /plugins\[1\] has no "type"/],
      ["a.conflist", { name: "a", cniVersion: "1.0.0", plugins: [null] }, /plugins\[0\] has no "type"/],
      ["a.conf", { name: "a" }, /no "type"/],
      ["a.conf", LIST, /no "type"/],
      ["a.conf", { type: 7 }, /no "type"/],
    ];
    for (const [name, value, expected] of cases) assert.throws(() => readNetworkConfig(encode(value), name), expected);
    assert.throws(() => readNetworkConfig(Uint8Array.of(0x7b, 0xff, 0x7d), "a.conf"), /not UTF-8/);
    assert.throws(() => readNetworkConfig(new Uint8Array(5 << 20), "a.conf"), /larger than/);
  });

  test("a list may name several versions", () => {
    assert.equal(readList({ name: "a", cniVersions: ["1.0.0", "1.1.0"], plugins: [{ type: "a" }] }).kind, "list");
  });
});

describe("conflist: our entry", () => {
  test("goldens: a single plugin, a list, a list with an entry of ours", () => {
    assert.equal(text(withEntry(readNetworkConfig(encode(BRIDGE), "bridge.conf"), ENTRY)), golden("bridge.conflist"));
    assert.equal(text(withEntry(readList(LIST), ENTRY)), golden("list.conflist"));
    const older = { type: "istio-cni", name: "istio-cni", plugin_log_level: "debug" };
    const withOlder = { ...LIST, plugins: [LIST.plugins[0], older, LIST.plugins[1], older] };
    assert.equal(text(withEntry(readList(withOlder), ENTRY)), golden("list.conflist"));
  });

  test("a configuration that is our own plugin alone is not there twice in the list", () => {
    const own = readNetworkConfig(encode({ ...BRIDGE, type: ENTRY["type"] }), "own.conf");
    assert.equal(entryProblem(readNetworkConfig(configText(withEntry(own, ENTRY)), "own.conflist"), ENTRY), undefined);
  });

  test("is there once and last, the rest is as it was, and taken out nothing is left of it", () => {
    const name = fc.string({ minLength: 1 });
    const plugin = fc.tuple(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.constantFrom("a", "b", "istio-cni", "istio-cni2", "ä"),
    )
      .map(([more, type]) => ({ ...more, type }));
    const list = fc.tuple(
      fc.dictionary(fc.string(), fc.jsonValue()),
      name,
      name,
      fc.array(plugin, { minLength: 1, maxLength: 5 }),
    )
      .map(([more, name, cniVersion, plugins]) => ({ ...more, name, cniVersion, plugins }));
    fc.assert(
      fc.property(list, (value) => {
        const before = readList(value);
        const others = value.plugins.filter(({ type }) => type !== "istio-cni");
        const merged = readList(text(withEntry(before, ENTRY))) as NetworkConfig & { kind: "list" };
        assert.equal(merged.plugins.length, others.length + 1);
        assert.ok(isSame(merged.plugins.slice(0, -1), others));
        const { cniVersion: _, ...ours } = ENTRY;
        assert.ok(isSame(merged.plugins.at(-1), ours));
        assert.ok(isSame({ ...merged.content, plugins: [] }, { ...value, plugins: [] }));
        assert.deepEqual(Object.keys(merged.content), Object.keys(JSON.parse(JSON.stringify(value))), "also its order");
        assert.equal(entryProblem(merged, ENTRY), undefined);
        assert.equal(text(withEntry(merged, ENTRY)), text(merged.content), "a second time changes nothing");
        assert.ok(isSame(withoutEntry(merged, ENTRY), { ...value, plugins: others }));
        if (others.length > 0) assert.equal(withoutEntry(readList({ ...value, plugins: others }), ENTRY), undefined);
      }),
      { numRuns: 200 },
    );
  });

  test("says what is wrong with it", () => {
    const { cniVersion: _, ...ours } = ENTRY;
    const problem = (plugins: unknown[]) => entryProblem(readList({ ...LIST, plugins }), ENTRY);
    assert.equal(problem([LIST.plugins[0], ours]), undefined);
    assert.equal(problem([LIST.plugins[0], ours, { type: "later" }]), undefined, "its place is the owner's choice");
    assert.match(problem([LIST.plugins[0]]) ?? "", /missing/);
    assert.match(problem([ours, LIST.plugins[0], ours]) ?? "", /2 times/);
    assert.match(problem([LIST.plugins[0], { ...ours, ambient_enabled: false }]) ?? "", /was changed/);
    assert.match(entryProblem(readNetworkConfig(encode(BRIDGE), "x.conf"), ENTRY) ?? "", /no list/);
  });
});
