import assert from "node:assert/strict";
import { test } from "node:test";
import { readEntries } from "../../src/platform/startup_pages.ts";

/** The upper halves of pagemap's entries. */
const ABSENT = 0, CLEAN = 0xa000_0000, WRITTEN = 0x8000_0000, SWAPPED = 0x4000_0000;
const read = (...pages: number[]) => readEntries(new Uint32Array(pages.flatMap((page) => [7, page])), 0x10000, 0x1000);

test("startup pages: runs of clean pages, up to the last one", () => {
  assert.deepEqual(read(), { clean: [], written: false });
  assert.deepEqual(read(ABSENT, CLEAN, CLEAN, ABSENT, CLEAN), {
    clean: [{ start: 0x11000, end: 0x13000 }, { start: 0x14000, end: 0x15000 }],
    written: false,
  });
});

test("startup pages: a page that was written to is in no run and is told, also when it is swapped out", () => {
  for (const page of [WRITTEN, SWAPPED]) {
    assert.deepEqual(read(CLEAN, page, CLEAN), {
      clean: [{ start: 0x10000, end: 0x11000 }, { start: 0x12000, end: 0x13000 }],
      written: true,
    });
  }
});
