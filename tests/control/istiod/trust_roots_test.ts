import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { IstiodError, readTrustRoots, splitPem } from "../../../src/control/istiod/mod.ts";
import { TestAuthority } from "../../platform/authority.ts";

let directory: string;
let first: string;
let second: string;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-roots-"));
  first = (await TestAuthority.create("first")).pem.trim();
  second = (await TestAuthority.create("second")).pem.trim();
});

after(() => rmSync(directory, { recursive: true }));

const trimmed = (pems: readonly string[]) => pems.map((pem) => pem.trim());

test("trust_roots: takes every certificate of a text, whatever stands between", () => {
  const { certificates } = readTrustRoots({ kind: "pem", pem: `subject=x\n${first}\r\n\n# more\n${second}` });
  assert.deepEqual(trimmed(certificates), [first, second]);
});

test("trust_roots: reads a file anew each time, also behind a link that is switched as Kubernetes does", () => {
  const path = join(directory, "root.pem");
  writeFileSync(join(directory, "one"), first);
  writeFileSync(join(directory, "two"), second);
  symlinkSync(join(directory, "one"), path);
  assert.deepEqual(trimmed(readTrustRoots({ kind: "file", path }).certificates), [first]);
  unlinkSync(path);
  symlinkSync(join(directory, "two"), path);
  assert.deepEqual(trimmed(readTrustRoots({ kind: "file", path }).certificates), [second]);
});

test("trust_roots: passes over an entry that nobody can read and trusts by the others", () => {
  const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  assert.deepEqual(trimmed(readTrustRoots({ kind: "pem", pem: broken + first }).certificates), [first]);
  assert.throws(() => readTrustRoots({ kind: "pem", pem: broken }), /no certificate in the PEM given/);
});

test("trust_roots: never is empty", () => {
  const path = join(directory, "empty.pem");
  writeFileSync(path, "");
  assert.throws(() => readTrustRoots({ kind: "file", path }), (error: unknown) => {
    assert.ok(error instanceof IstiodError);
    assert.equal(error.kind, "local");
    return error.message.includes(path);
  });
  const missing = join(directory, "missing.pem");
  assert.throws(
    () => readTrustRoots({ kind: "file", path: missing }),
    /cannot read the root certificate .*missing\.pem/,
  );
});

test("trust_roots: takes the first bundle of the system that is there", () => {
  const bundle = join(directory, "bundle.crt");
  writeFileSync(bundle, first + "\n" + second);
  const missing = join(directory, "missing.crt");
  assert.deepEqual(trimmed(readTrustRoots({ kind: "system" }, [missing, bundle]).certificates), [first, second]);
  assert.throws(
    () => readTrustRoots({ kind: "system" }, [missing]),
    /has no bundle of roots: looked for .*missing\.crt/,
  );
});

test("trust_roots: a certificate that does not end is none", () => {
  const cut = first.slice(0, -5);
  assert.deepEqual(splitPem(cut), []);
  assert.deepEqual(trimmed(splitPem(cut + first)), [first]);
  assert.deepEqual(trimmed(splitPem(`${first}${second}`)), [first, second]);
});
