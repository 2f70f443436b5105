/** `bench:l4 --openssl`: which libraries, and of what version. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findOpenSsl } from "../../scripts/bench/openssl.ts";

test("bench openssl: both libraries must be there, and be OpenSSL 3", () => {
  const directory = mkdtempSync(join(tmpdir(), "ambit-openssl-"));
  try {
    assert.throws(() => findOpenSsl(directory), /has no libssl\.so\.3$/);
    writeFileSync(join(directory, "libssl.so.3"), "");
    assert.throws(() => findOpenSsl(directory), /has no libcrypto\.so\.3$/);
    writeFileSync(join(directory, "libcrypto.so.3"), "\x7fELF OpenSSL 1.1.1w 11 Sep 2023\0");
    assert.throws(() => findOpenSsl(directory), /is not OpenSSL 3$/);
    writeFileSync(join(directory, "libcrypto.so.3"), "\x7fELF\0OpenSSL 3.5.8 25 Aug 2026\0");
    assert.deepEqual(findOpenSsl(directory), { directory, version: "OpenSSL 3.5.8 25 Aug 2026" });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
