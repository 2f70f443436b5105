/** The own certificate and the lists that revoke others'. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createLocalCa, type LocalCa } from "../../../src/control/local/ca.ts";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";
import { graceRatio, WaypointIdentity, type WaypointIdentityOptions } from "../../../src/waypoint/agent/identity.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { until } from "../worker/hbone_client.ts";

const ID = "spiffe://cluster.local/ns/demo/sa/waypoint";
const LIFE_MS = 3_600_000;

let ca: LocalCa;
let directory: string;
before(async () => {
  ca = await createLocalCa({ now: Date.now, leafTtlMs: LIFE_MS });
  directory = mkdtempSync(join(tmpdir(), "ambit-identity-"));
});
after(() => rmSync(directory, { recursive: true }));

function create(
  config: Partial<WaypointIdentityOptions["config"]> = {},
  requestCertificate: WaypointIdentityOptions["authority"]["requestCertificate"] = (id, csr) => ca.sign(id, csr),
) {
  const seen = {
    issued: [] as TlsMaterial[],
    revoked: [] as (readonly string[])[],
    delays: [] as number[],
    tasks: [] as (() => void)[],
    lines: [] as string[],
  };
  const identity = new WaypointIdentity({
    config: {
      crlPath: undefined,
      outputCerts: undefined,
      secretGraceRatio: 0.5,
      secretGraceJitter: 0,
      key: { kind: "ec", curve: "P-256" },
      ...config,
    },
    id: ID,
    authority: { requestCertificate },
    registry: undefined,
    log: { enabled: () => true, log: (level, target, message) => seen.lines.push(`${level} ${target} ${message}`) },
    schedule: (task, delayMs) => {
      seen.delays.push(delayMs);
      seen.tasks.push(task);
      return () => {};
    },
    issued: (material) => seen.issued.push(material),
    revoked: (lists) => seen.revoked.push(lists),
    failed: () => {},
  });
  return { identity, seen };
}

test("identity: renewed when the part of its life is left that SECRET_GRACE_PERIOD_RATIO says", async () => {
  for (const ratio of [0.5, 0.1]) {
    const { identity, seen } = create({ secretGraceRatio: ratio });
    identity.start();
    await until(() => seen.issued.length === 1, "the certificate");
    const due = LIFE_MS * (1 - ratio);
    // The CA backdates by two minutes.
    const renewal = seen.delays.at(-1) as number;
    assert.ok(Math.abs(renewal - due) < 5 * 60_000, `${renewal} is not about ${due}`);
    identity.close();
  }
});

test("identity: the ratio varies by the jitter and stays within bounds", () => {
  assert.equal(graceRatio(0.5, 0.01, () => 0.5), 0.5);
  assert.equal(graceRatio(0.5, 0.1, () => 1), 0.6);
  assert.equal(graceRatio(0.5, 0.1, () => 0), 0.4);
  assert.equal(graceRatio(1, 0.1, () => 1), 1);
  assert.ok(graceRatio(0, 0, () => 0) > 0, "a certificate is not left to end");
});

test("identity: OUTPUT_CERTS keeps the certificate as files; a directory that cannot be written to stops nothing", async () => {
  const { identity, seen } = create({ outputCerts: directory });
  identity.start();
  await until(() => seen.issued.length === 1, "the certificate");
  assert.equal(readFileSync(join(directory, "key.pem"), "utf8"), seen.issued[0].privateKey);
  identity.close();
  const other = create({ outputCerts: join(directory, "none") });
  other.identity.start();
  await until(() => other.seen.issued.length === 1, "the certificate");
  assert.match(other.seen.lines.join("\n"), /error identity OUTPUT_CERTS: the certificate cannot be written/);
  other.identity.close();
});

test("identity: revocation lists are read before the certificate is asked for; a broken file ends the start", async () => {
  const authority = await TestAuthority.create();
  const { chain } = await authority.material({ uris: [ID] });
  const path = join(directory, "ca-crl.pem");
  writeFileSync(path, await authority.crl([chain[0]]));
  const { identity, seen } = create({ crlPath: path });
  identity.start();
  assert.equal(seen.revoked.length, 1);
  assert.equal(seen.issued.length, 0);
  assert.match(seen.revoked[0][0], /BEGIN X509 CRL/);
  identity.close();
  writeFileSync(path, "no list");
  assert.throws(() => create({ crlPath: path }).identity.start(), /revocation lists/);
});

test("identity: no revocation lists, as in most meshes, is nothing to warn of", async () => {
  const { identity, seen } = create({ crlPath: join(directory, "crl/none.pem") });
  identity.start();
  await until(() => seen.issued.length === 1, "the certificate");
  assert.deepEqual(seen.lines.filter((line) => /^(warn|error)/.test(line)), []);
  assert.deepEqual(seen.revoked, []);
  identity.close();
});

test("identity: a CA that refuses is asked again every few seconds, however often it has refused", async () => {
  let asked = 0;
  const { identity, seen } = create({}, () => {
    asked++;
    return Promise.reject(new Error("not this token"));
  });
  identity.start();
  for (let i = 1; i <= 8; i++) {
    await until(() => seen.lines.length === i, "the refusal");
    // Also a timeout of the request is scheduled: the last one is the next try.
    seen.tasks.at(-1)!();
  }
  assert.equal(asked, 9);
  const pauses = seen.delays.filter((delayMs) => delayMs !== 10_000);
  assert.ok(Math.max(...pauses) <= 6_000, `${pauses}`);
});
