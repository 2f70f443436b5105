/** A selection that comes in parts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SelectionParts } from "../../../src/waypoint/engine/selection.ts";
import type { ChainName, SelectionSpec } from "../../../src/waypoint/spec/mod.ts";

const range = (ip: string): SelectionSpec["ranges"][number] => ({
  cidrs: [`${ip}/32`],
  to: { kind: "any", to: { kind: "chain", chain: ip as ChainName } },
});
const AUTHORITIES = { "a:80": "by name" as ChainName };

test("selection parts: together they are the selection", () => {
  const parts = new SelectionParts();
  parts.take({ at: 0, ranges: [range("10.0.0.1"), range("10.0.0.2")] });
  parts.take({ at: 2, ranges: [range("10.0.0.3")] });
  const made = parts.finish({ authorities: AUTHORITIES, ranges: [range("10.0.0.4")] }, 3);
  for (const ip of ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]) {
    assert.deepEqual(made?.find("", ip, 80), { kind: "chain", chain: ip });
  }
  assert.deepEqual(made?.find("a:80", "", 80), { kind: "chain", chain: "by name" });
  assert.equal(made?.find("", "10.0.0.5", 80), undefined);
});

test("selection parts: one alone is whole", () => {
  const made = new SelectionParts().finish({ authorities: {}, ranges: [range("10.0.0.1")] }, 0);
  assert.ok(made?.find("", "10.0.0.1", 80) !== undefined);
});

test("selection parts: whoever has not seen all of them makes nothing of them", () => {
  const late = new SelectionParts();
  late.take({ at: 2, ranges: [range("10.0.0.3")] });
  assert.equal(late.finish({ authorities: {}, ranges: [range("10.0.0.4")] }, 3), undefined);
  const gap = new SelectionParts();
  gap.take({ at: 0, ranges: [range("10.0.0.1")] });
  gap.take({ at: 2, ranges: [range("10.0.0.3")] });
  assert.equal(gap.finish({ authorities: {}, ranges: [] }, 3), undefined);
});

test("selection parts: a range that is none spoils all of it, and nothing of it is used", () => {
  const parts = new SelectionParts();
  parts.take({ at: 0, ranges: [range("nowhere")] });
  parts.take({ at: 1, ranges: [range("10.0.0.1")] });
  assert.throws(() => parts.finish({ authorities: {}, ranges: [] }, 2), /no range of addresses/);
});
