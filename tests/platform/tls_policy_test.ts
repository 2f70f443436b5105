import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, describe, test } from "node:test";
import { opensslVersion } from "../../src/platform/openssl.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { provePolicy, type TlsPolicy } from "../../src/platform/tls_policy.ts";
import { TestAuthority } from "./authority.ts";
import { handshake, type TlsPair } from "./tls_pair.ts";

const TLS13: TlsPolicy = { tls12: false, pqc: false };
const TLS12: TlsPolicy = { tls12: true, pqc: false };
const PQC: TlsPolicy = { tls12: true, pqc: true };
const X25519 = 29;

/** The hybrid key exchange is there from OpenSSL 3.5 on. */
const [major, minor] = opensslVersion().replace("OpenSSL ", "").split(".").map(Number);
const hasHybrid = major > 3 || (major === 3 && minor >= 5);

let good: TlsMaterial;

before(async () => {
  good = await (await TestAuthority.create()).material();
});

function meet(client: TlsPolicy | undefined, server: TlsPolicy | undefined): TlsPair {
  return handshake(
    new TlsContext("client", good, { policy: client }),
    new TlsContext("server", good, { policy: server }),
  );
}

describe("tls_policy: versions", () => {
  test("tls_policy: TLS 1.3 with the cheaper suite and X25519 is what two of us speak", () => {
    for (const policy of [undefined, TLS13, TLS12]) {
      const pair = meet(policy, policy);
      assert.equal(pair.clientOutcome, 1);
      assert.equal(pair.server.version(), "TLSv1.3");
      assert.equal(pair.server.cipher(), "TLS_AES_128_GCM_SHA256");
      assert.equal(pair.server.group(), X25519);
      pair.close();
    }
  });
});

describe("tls_policy: pqc", () => {
  // What is to be seen depends on the library of the machine: one of the two.
  const withLibrary = hasHybrid ? test : undefined;
  const withoutLibrary = hasHybrid ? undefined : test;

  withoutLibrary?.("tls_policy: a library without the hybrid key exchange is refused, saying what to do", () => {
    assert.throws(
      () => provePolicy(PQC),
      /COMPLIANCE_POLICY=pqc needs the key exchange X25519MLKEM768, which OpenSSL 3\.\d+\.\d+.* does not have: use OpenSSL 3\.5 or later/,
    );
    assert.throws(() => new TlsContext("client", good, { policy: PQC }), /COMPLIANCE_POLICY=pqc/);
    const pair = meet(undefined, undefined);
    assert.equal(pair.clientOutcome, 1, "a refusal leaves nothing behind");
    pair.close();
  });

  withLibrary?.("tls_policy: with a library that has it, nothing else is spoken", () => {
    const pair = meet(PQC, PQC);
    assert.equal(pair.clientOutcome, 1);
    assert.equal(pair.server.group(), 0x11ec);
    assert.equal(pair.server.version(), "TLSv1.3");
    pair.close();
    const mixed = meet(TLS13, PQC);
    assert.equal(mixed.clientOutcome, 1, "the hybrid one is among ours");
    assert.equal(mixed.server.group(), 0x11ec);
    mixed.close();
  });
});

test("tls_policy: the openssl program knows the suites by these names", () => {
  const names = execFileSync("openssl", ["ciphers", "-s", "-tls1_2", "ECDHE+AESGCM"], { encoding: "utf8" });
  for (const kind of ["ECDSA", "RSA"]) {
    for (const suite of ["AES128-GCM-SHA256", "AES256-GCM-SHA384"]) assert.ok(names.includes(`ECDHE-${kind}-${suite}`));
  }
});
