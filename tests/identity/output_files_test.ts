/** The certificate as files. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { outputCertificates } from "../../src/identity/output_files.ts";

test("output_files: key, chain with its root, and roots, readable for the pod or for the user alone", () => {
  const directory = mkdtempSync(join(tmpdir(), "ambit-output-"));
  try {
    const read = (name: string) => readFileSync(join(directory, name), "utf8");
    const mode = (name: string) => statSync(join(directory, name)).mode & 0o777;
    outputCertificates(directory, { privateKey: "K", chain: ["A", "B"], roots: ["R"] }, false);
    assert.deepEqual(["key.pem", "cert-chain.pem", "root-cert.pem"].map(read), ["K", "ABR", "R"]);
    assert.equal(mode("key.pem"), 0o600);
    const before = statSync(join(directory, "root-cert.pem")).ino;
    outputCertificates(directory, { privateKey: "K2", chain: ["C"], roots: ["R"] }, true);
    assert.deepEqual(["key.pem", "cert-chain.pem"].map(read), ["K2", "CR"]);
    assert.equal(mode("key.pem"), 0o644);
    assert.equal(statSync(join(directory, "root-cert.pem")).ino, before, "what did not change is left alone");
    assert.deepEqual(readdirSync(directory).sort(), ["cert-chain.pem", "key.pem", "root-cert.pem"]);
    assert.throws(() => outputCertificates(join(directory, "none"), { privateKey: "", chain: [], roots: [] }, true));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
