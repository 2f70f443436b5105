import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createFileJournal, readBootId } from "../../../src/cni/agent/journal.ts";

function inDirectory(use: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "ambit-journal-"));
  try {
    use(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const NOTE = { uid: "0f1e-2d", namespace: "shop", name: "cart", netns: "0:4:4026532001" };

test("journal: the next agent reads what the one before has written, with its boot", () => {
  inDirectory((directory) => {
    const first = createFileJournal(directory, "boot-1");
    first.write(NOTE);
    first.write({ ...NOTE, uid: "other" });
    first.forget("other");
    assert.deepEqual(createFileJournal(directory, "boot-2").read(), [{ ...NOTE, bootId: "boot-1" }]);
    assert.equal(statSync(join(directory, "pods", NOTE.uid)).mode & 0o777, 0o600);
  });
});

test("journal: another namespace of the same pod replaces the note", () => {
  inDirectory((directory) => {
    const journal = createFileJournal(directory, "boot-1");
    journal.write(NOTE);
    journal.write({ ...NOTE, netns: "0:4:4026532002" });
    assert.deepEqual(journal.read().map(({ netns }) => netns), ["0:4:4026532002"]);
    assert.deepEqual(readdirSync(join(directory, "pods")), [NOTE.uid]);
  });
});

test("journal: notes that cannot be read are skipped, and so is what is none", () => {
  inDirectory((directory) => {
    const journal = createFileJournal(directory, "boot-1");
    journal.write(NOTE);
    for (
      const [name, text] of [["torn", '{"namespace":"a'], ["wrong", '{"namespace":1}'], [".0f1e-2d.tmp", "{}"], [
        "null",
        "null",
      ]]
    ) {
      writeFileSync(join(directory, "pods", name), text);
    }
    assert.equal(journal.read().length, 1);
  });
});

test("journal: a uid that is a path does not leave the directory", () => {
  inDirectory((directory) => {
    const journal = createFileJournal(directory, "boot-1");
    for (const uid of ["../x", "a/b", "", ".", ".."]) {
      assert.throws(() => journal.write({ ...NOTE, uid }), /is none/);
      journal.forget(uid);
    }
    assert.deepEqual(readdirSync(directory), ["pods"]);
  });
});

test("journal: what is forgotten may come again", () => {
  inDirectory((directory) => {
    const journal = createFileJournal(directory, "boot-1");
    journal.write(NOTE);
    journal.forget(NOTE.uid);
    journal.forget(NOTE.uid);
    journal.write(NOTE);
    assert.equal(journal.read().length, 1);
  });
});

test("journal: the kernel says which boot this is", () => assert.match(readBootId(), /^[0-9a-f-]{36}$/));
