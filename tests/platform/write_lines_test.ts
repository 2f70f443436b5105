import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { EPIPE, SystemError } from "../../src/platform/errno.ts";
import { closeDescriptor, socketPair, writeLines } from "../../src/platform/socket.ts";

const encoder = new TextEncoder();

describe("writeLines", () => {
  function withFifo(use: (fd: number) => void): void {
    const directory = mkdtempSync(join(tmpdir(), "ambit-fifo-"));
    const path = join(directory, "fifo");
    execFileSync("mkfifo", [path]);
    const O_RDWR = 2;
    const fd = openSync(path, O_RDWR);
    try {
      use(fd);
    } finally {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    }
  }

  test("writeLines: a full blocking pipe takes nothing and does not block", () => {
    withFifo((fd) => {
      const lines = encoder.encode("0123456789abcde\n".repeat(1024));
      let total = 0;
      for (let n = writeLines(fd, lines); n > 0; n = writeLines(fd, lines)) {
        assert.equal(n % 16, 0, "a line was cut");
        assert.ok(n <= 4096);
        total += n;
      }
      assert.ok(total >= 4096);
      assert.equal(writeLines(fd, lines), 0);
      readSync(fd, new Uint8Array(8192));
      assert.equal(writeLines(fd, lines), 4096, "it goes on once there is room");
    });
  });

  test("writeLines: a line longer than the pipe's promise goes in parts", () => {
    withFifo((fd) => {
      assert.equal(writeLines(fd, new Uint8Array(10_000).fill(97)), 4096);
      assert.equal(writeLines(fd, encoder.encode("short\n")), 6);
    });
  });

  test("writeLines: throws when nothing reads any more", () => {
    const pair = socketPair();
    assert.ok(pair !== undefined);
    closeDescriptor(pair[1]);
    assert.throws(() => writeLines(pair[0], encoder.encode("x\n")), (error) => {
      assert.ok(error instanceof SystemError);
      assert.equal(error.code, EPIPE);
      return true;
    });
    closeDescriptor(pair[0]);
  });
});
