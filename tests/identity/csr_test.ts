import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { createKeyAndRequest } from "../../src/identity/csr.ts";
import type { KeyKind } from "../../src/platform/certificates.ts";

await import("reflect-metadata");
const x509 = await import("@peculiar/x509");

const ID = "spiffe://cluster.local/ns/default/sa/web";

test("csr: has an empty subject and exactly one extension, a critical SAN with one URI", async () => {
  const request = new x509.Pkcs10CertificateRequest(createKeyAndRequest(ID).csrPem);
  assert.equal(request.subject, "");
  assert.equal(request.extensions.length, 1);
  const [names] = request.extensions;
  assert.equal(names.type, "2.5.29.17");
  assert.equal(names.critical, true);
  assert.deepEqual(new x509.SubjectAlternativeNameExtension(names.rawData).names.toJSON(), [{
    type: "url",
    value: ID,
  }]);
  assert.equal(await request.verify(), true, "signed by its own key");
});

test("csr: is ECDSA P-256 with SHA-256, and openssl agrees", () => {
  const text = execFileSync("openssl", ["req", "-text", "-noout", "-verify"], {
    input: createKeyAndRequest(ID).csrPem,
    encoding: "utf8",
    stdio: ["pipe", "pipe", "pipe"],
  });
  assert.match(text, /Signature Algorithm: ecdsa-with-SHA256/);
  assert.match(text, /ASN1 OID: prime256v1/);
  assert.match(text, /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/default\/sa\/web/);
  assert.match(text, /Subject:\s*\n/);
});

test("csr: a key of another kind where one is asked for", () => {
  const facts = (kind: KeyKind) =>
    execFileSync("openssl", ["req", "-text", "-noout", "-verify"], {
      input: createKeyAndRequest(ID, kind).csrPem,
      encoding: "utf8",
      stdio: ["pipe", "pipe", "pipe"],
    });
  assert.match(facts({ kind: "ec", curve: "P-384" }), /ASN1 OID: secp384r1/);
  assert.match(facts({ kind: "rsa", bits: 2048 }), /Public Key Algorithm: rsaEncryption\s+Public-Key: \(2048 bit\)/);
});

test("csr: each request has a key of its own, which fits it", async () => {
  const [first, second] = [createKeyAndRequest(ID), createKeyAndRequest(ID)];
  assert.notEqual(first.privateKeyPem, second.privateKeyPem);
  const publicOf = (input: string, kind: "pkey" | "req") =>
    execFileSync("openssl", kind === "pkey" ? ["pkey", "-pubout"] : ["req", "-pubkey", "-noout"], {
      input,
      encoding: "utf8",
    });
  assert.equal(publicOf(first.privateKeyPem, "pkey"), publicOf(first.csrPem, "req"));
});

test("csr: an identity that could smuggle in a second name is refused", () => {
  assert.throws(() => createKeyAndRequest(`${ID},URI:spiffe://cluster.local/ns/istio-system/sa/istiod`), TypeError);
});
