/** Who is found, and how long after it was taken away. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChainName, SelectionSpec } from "../../../src/waypoint/spec/mod.ts";
import { DEPARTED_MS, Directory } from "../../../src/waypoint/worker/directory.ts";
import { TestTiming } from "../support/memory_stream.ts";

const A = "10.0.0.1", B = "10.0.0.2";

function selection(...services: readonly (readonly [ip: string, chain: string])[]): SelectionSpec {
  return {
    authorities: {},
    ranges: services.map(([ip, chain]) => ({
      cidrs: [`${ip}/32`],
      to: { kind: "ports", ports: { 80: { kind: "chain", chain: chain as ChainName } } },
    })),
  };
}

function create() {
  const timing = new TestTiming();
  const departed = new Set<string>();
  const errors: string[] = [];
  const directory = new Directory({
    timing,
    log: {
      log: (_level: unknown, _target: unknown, _message: unknown, fields?: { readonly error?: unknown }) =>
        void errors.push(String(fields?.error)),
    } as never,
    isDeparted: (chain) => departed.has(chain),
  });
  const apply = (spec: SelectionSpec) => directory.apply({ epoch: 1, selection: spec });
  const find = (ip: string) => {
    const choice = directory.find(`${ip}:80`, ip, 80);
    return choice?.kind === "chain" ? choice.chain : choice?.kind;
  };
  return { timing, departed, errors, apply, find };
}

test("directory: what was taken away is known for a moment longer", () => {
  const { timing, departed, apply, find } = create();
  apply(selection([A, "a"], [B, "b"]));
  apply(selection([B, "b"]));
  departed.add("a");
  assert.equal(find(A), "a");
  timing.advance(DEPARTED_MS - 1);
  assert.equal(find(A), "a");
  timing.advance(1);
  assert.equal(find(A), undefined);
  assert.equal(find(B), "b");
});

test("directory: an address that is another's now is not led to whom it was before", () => {
  const { departed, apply, find } = create();
  apply(selection([A, "a"]));
  apply(selection([A, "b"]));
  departed.add("a");
  assert.equal(find(A), "b");
});

test("directory: a chain that is still in force serves only who is led to it now", () => {
  const { apply, find } = create();
  apply(selection([A, "a"], [B, "a"]));
  apply(selection([B, "a"]));
  assert.equal(find(A), undefined);
});

test("directory: also after further changes", () => {
  const { timing, departed, apply, find } = create();
  apply(selection([A, "a"], [B, "b"]));
  apply(selection([B, "b"]));
  departed.add("a");
  timing.advance(10);
  apply(selection([B, "b"]));
  assert.equal(find(A), "a");
});

test("directory: one that cannot be used leads nobody, and takes what was before along", () => {
  const { departed, errors, apply, find } = create();
  apply(selection([A, "a"]));
  departed.add("a");
  apply({ authorities: {}, ranges: [{ cidrs: ["nothing"], to: { kind: "ports", ports: {} } }] });
  assert.equal(find(A), undefined);
  assert.equal(errors.length, 1);
});
