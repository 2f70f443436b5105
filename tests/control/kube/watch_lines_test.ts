import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { readStep, WatchLineError, WatchLines, type WatchStep } from "../../../src/control/kube/watch_lines.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const line = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`;
const pod = (name: string, version = "1") => ({
  metadata: { name, namespace: "default", uid: "u", resourceVersion: version },
});

const STREAM = line("ADDED", { ...pod("a"), text: "größer 漢字 🙂" }) + line("MODIFIED", pod("b", "2")) +
  line("BOOKMARK", { metadata: { resourceVersion: "3" } }) + "\r\n" + line("DELETED", pod("b", "4")) +
  line("ERROR", { kind: "Status", code: 410 });

function read(chunks: readonly Uint8Array[], maxBytes?: number): WatchStep[] {
  const steps: WatchStep[] = [];
  const lines = new WatchLines(maxBytes);
  for (const chunk of chunks) {
    // As a runtime may do it: the buffer is used again.
    const own = chunk.slice();
    lines.push(own, (step) => steps.push(step));
    own.fill(0);
  }
  assert.equal(lines.isInLine, false);
  return steps;
}

describe("watch lines", () => {
  const bytes = encode(STREAM);
  const whole = read([bytes]);

  test("gives the steps of a stream in order", () => {
    assert.deepEqual(whole.map(({ kind }) => kind), ["added", "modified", "bookmark", "deleted", "error"]);
    assert.ok(whole[0].kind === "added" && "text" in whole[0].object);
    assert.equal(whole[0].object.text, "größer 漢字 🙂");
  });

  test("the same for a split at every byte, and byte by byte", () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      assert.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), whole);
    }
    assert.deepEqual(read([...bytes].map((byte) => Uint8Array.of(byte))), whole);
  });

  test("the same for any split", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 12 }), (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        assert.deepEqual(read(places.slice(1).map((end, index) => bytes.subarray(places[index], end))), whole);
      }),
      { numRuns: 200 },
    );
  });

  test("says when it ends within a line", () => {
    const lines = new WatchLines();
    lines.push(bytes.subarray(0, -1), () => {});
    assert.equal(lines.isInLine, true);
  });

  test("a line may be as long as the limit and no longer, in however many pieces", () => {
    const text = line("ADDED", pod("a"));
    assert.equal(read([encode(text)], text.length - 1).length, 1);
    for (const size of [1, 7, text.length]) {
      const lines = new WatchLines(text.length - 2);
      assert.throws(() => {
        for (let at = 0; at < text.length; at += size) {
          lines.push(encode(text.slice(at, at + size)), () => assert.fail("no step"));
        }
      }, WatchLineError);
    }
  });

  test("what is no event is an error", () => {
    for (
      const text of [
        "{",
        "null",
        "7",
        '"ADDED"',
        "{}",
        line("ADDED", null),
        line("ADDED", {}),
        line("ADDED", { metadata: { name: "a" } }),
        line("ADDED", { metadata: { name: 1, resourceVersion: "1" } }),
        line("ADDED", { metadata: { name: "", resourceVersion: "1" } }),
        line("MODIFIED", { metadata: { name: "a", namespace: 1, resourceVersion: "1" } }),
        line("BOOKMARK", { metadata: {} }),
        line("RENAMED", pod("a")),
      ]
    ) {
      assert.throws(() => readStep(text), WatchLineError, text);
    }
    assert.throws(() => new WatchLines().push(Uint8Array.of(0xff, 10), () => {}), /not UTF-8/);
  });
});
