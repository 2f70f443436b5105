import assert from "node:assert/strict";
import { test } from "node:test";
import { CertificateStore } from "../../src/identity/certificate_store.ts";
import { TestAuthority } from "../platform/authority.ts";

const IDENTITY = "spiffe://cluster.local/ns/default/sa/web";

test("certificate store: a certificate for another key is refused here, before it can stop every worker", async () => {
  const ca = await TestAuthority.create();
  const changes: string[] = [];
  const failures: string[] = [];
  const store = new CertificateStore({
    authority: {
      async requestCertificate() {
        // The right name, but not the key of the request.
        const { chain } = await ca.leaf({ uris: [IDENTITY] });
        return { chain, roots: [ca.pem] };
      },
    },
    nowMs: Date.now,
    schedule: () => () => {},
    changed: (identity) => changes.push(identity),
    failed: (_identity, error) => failures.push(error),
    random: () => 0.5,
  });
  await assert.rejects(store.acquire(IDENTITY), /private key/);
  assert.deepEqual(changes, []);
  assert.equal(failures.length, 1);
  assert.equal(store.list()[0].state.kind, "unavailable");
});
