import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createLocalCa } from "../../../src/control/local/ca.ts";
import { x509 } from "../../../src/control/local/x509.ts";

const REVIEWS = "spiffe://cluster.local/ns/bookstore/sa/reviews";
const P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

interface RequestOptions {
  readonly names?: readonly string[];
  readonly keys?: CryptoKeyPair;
  readonly signingKey?: CryptoKey;
}

async function createRequest({ names = [REVIEWS], keys, signingKey }: RequestOptions = {}): Promise<string> {
  const pair = keys ?? await crypto.subtle.generateKey(P256, true, ["sign", "verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    keys: { publicKey: pair.publicKey, privateKey: signingKey ?? pair.privateKey },
    signingAlgorithm: P256,
    extensions: [
      new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: "url" as const, value })), true),
    ],
  });
  return request.toString("pem");
}

test("ca: a leaf carries the SPIFFE id, critical and alone, for client and server use", async () => {
  const ca = await createLocalCa();
  const { chain, roots } = await ca.sign(REVIEWS, await createRequest());
  assert.equal(chain.length, 1);
  const leaf = new X509Certificate(chain[0]!);
  assert.equal(leaf.subjectAltName, `URI:${REVIEWS}`);
  assert.equal(leaf.subject ?? "", "");
  assert.equal(leaf.ca, false);
  assert.ok(leaf.verify(new X509Certificate(roots[0]!).publicKey));

  const parsed = new x509.X509Certificate(chain[0]!);
  assert.equal(parsed.getExtension("2.5.29.17")?.critical, true);
  const usage = parsed.getExtension(x509.ExtendedKeyUsageExtension);
  assert.deepEqual([...usage!.usages], ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
});

test("ca: a leaf lives for a day by default and for the time that is set", async () => {
  const now = () => Date.UTC(2030, 0, 1);
  const day = new x509.X509Certificate(
    (await (await createLocalCa({ now })).sign(REVIEWS, await createRequest())).chain[0]!,
  );
  assert.equal(day.notAfter.getTime() - now(), 24 * 3600 * 1000);
  assert.ok(day.notBefore.getTime() < now());

  const expiredCa = await createLocalCa({ now, leafTtlMs: -1000 });
  const expired = new x509.X509Certificate((await expiredCa.sign(REVIEWS, await createRequest())).chain[0]!);
  assert.ok(expired.notAfter.getTime() < now());
  assert.ok(expired.notBefore.getTime() < expired.notAfter.getTime());
});

test("ca: with an intermediate the chain leads from leaf over intermediate to root", async () => {
  const ca = await createLocalCa({ intermediate: true });
  const { chain, roots } = await ca.sign(REVIEWS, await createRequest());
  assert.equal(chain.length, 2);
  const [leaf, intermediate] = chain.map((pem) => new X509Certificate(pem));
  assert.ok(leaf!.verify(intermediate!.publicKey));
  assert.ok(intermediate!.verify(new X509Certificate(roots[0]!).publicKey));
  assert.equal(intermediate!.ca, true);
});

test("ca: refuses a request for another identity, for two, or for none", async () => {
  const ca = await createLocalCa();
  const other = "spiffe://cluster.local/ns/bookstore/sa/ratings";
  await assert.rejects(ca.sign(other, await createRequest()), /does not name exactly .*ratings/);
  await assert.rejects(ca.sign(REVIEWS, await createRequest({ names: [REVIEWS, other] })), /does not name exactly/);
  await assert.rejects(ca.sign(REVIEWS, await createRequest({ names: [] })), /does not name exactly|cannot be read/);
});

test("ca: refuses a request that its own key did not sign", async () => {
  const ca = await createLocalCa();
  const stranger = await crypto.subtle.generateKey(P256, true, ["sign", "verify"]);
  const request = await createRequest({ signingKey: stranger.privateKey });
  await assert.rejects(ca.sign(REVIEWS, request), /not signed by its own key/);
});

test("ca: refuses keys other than P-256, and what is no request at all", async () => {
  const ca = await createLocalCa();
  const p384 = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-384" }, true, ["sign", "verify"]);
  await assert.rejects(ca.sign(REVIEWS, await createRequest({ keys: p384 })), /not ECDSA P-256/);
  await assert.rejects(ca.sign(REVIEWS, "no PEM"), /cannot be read/);
  await assert.rejects(ca.sign(REVIEWS, "A".repeat(1 << 20)), /too large/);
});

test("ca: keeps its root in a directory, the key for its owner only", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-ca-"));
  try {
    const first = await createLocalCa({ directory });
    const second = await createLocalCa({ directory });
    assert.deepEqual(second.roots, first.roots);
    const { chain, roots } = await second.sign(REVIEWS, await createRequest());
    assert.ok(new X509Certificate(chain[0]!).verify(new X509Certificate(roots[0]!).publicKey));
    assert.equal((await stat(join(directory, "root-key.pem"))).mode & 0o777, 0o600);

    await writeFile(join(directory, "root-key.pem"), "garbage");
    await assert.rejects(createLocalCa({ directory }));
    assert.equal(await readFile(join(directory, "root-key.pem"), "utf8"), "garbage");
  } finally {
    await rm(directory, { recursive: true });
  }
});
