import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { MultiIndex } from "../../src/mesh/multi_index.ts";

interface Item {
  readonly id: string;
  readonly version: number;
}

test("multi_index: holds what a map of maps would, and no key without values", () => {
  const key = fc.constantFrom("a", "b");
  const id = fc.constantFrom("1", "2", "3");
  const step = fc.record({ key, id, version: fc.nat(3), remove: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const index = new MultiIndex((item: Item) => item.id);
      const model = new Map<string, Map<string, Item>>();
      for (const { key, id, version, remove } of steps) {
        const bucket = model.get(key) ?? new Map<string, Item>();
        if (remove) {
          index.delete(key, id);
          bucket.delete(id);
        } else {
          index.set(key, { id, version });
          bucket.set(id, { id, version });
        }
        if (bucket.size === 0) model.delete(key);
        else model.set(key, bucket);
        for (const name of ["a", "b", "c"]) {
          const byId = (a: Item, b: Item) => a.id < b.id ? -1 : 1;
          assert.deepEqual([...index.values(name)].sort(byId), [...model.get(name)?.values() ?? []].sort(byId));
        }
        assert.equal(index.size, model.size);
      }
    }),
  );
});
