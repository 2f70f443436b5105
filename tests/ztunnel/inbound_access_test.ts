import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { portBeside } from "../../src/ztunnel/inbound_access.ts";

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("a connection in a client's name never has the client's own port, whichever that is", () => {
  fc.assert(fc.property(random, (drawn) => {
    const first = portBeside(0, drawn);
    assert.ok(first >= 16_384 && first < 32_768, `${first} is a port that clients use`);
    const other = portBeside(first, drawn);
    assert.notEqual(other, first);
    assert.ok(other >= 16_384 && other < 32_768, `${other} is a port that clients use`);
  }));
  assert.equal(portBeside(32_767, 0.999999), 16_384, "after the last port comes the first");
});

test("every port of the range can be drawn", () => {
  assert.equal(portBeside(40_000, 0), 16_384);
  assert.equal(portBeside(40_000, 1 - 2 ** -53), 32_767);
});
