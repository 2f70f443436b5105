import assert from "node:assert/strict";
import { before, test } from "node:test";
import { RevocationList } from "../../src/platform/revocations.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { PodTls } from "../../src/ztunnel/pod_tls.ts";
import { TestAuthority } from "../platform/authority.ts";

let authority: TestAuthority;
let material: TlsMaterial;

before(async () => {
  authority = await TestAuthority.create();
  material = await authority.material();
});

test("pod_tls: a context is made once, and anew for other lists or another certificate", async () => {
  const revocations: { current: RevocationList | undefined } = { current: undefined };
  const tls = new PodTls(material, undefined, revocations);
  const first = tls.context("client");
  assert.equal(tls.context("client"), first);
  assert.equal(first.side, "client");
  const server = tls.context("server");
  assert.equal(server.side, "server");

  revocations.current = new RevocationList([await authority.crl([])]);
  const second = tls.context("client");
  assert.notEqual(second, first);
  assert.equal(first.pointer, null, "the old one is given back");
  assert.notEqual(server.pointer, null, "the other side is made anew when it is needed");
  assert.equal(tls.context("client"), second);

  tls.replace(await authority.material());
  assert.equal(second.pointer, null);
  assert.equal(server.pointer, null);
  assert.notEqual(tls.context("client"), second);
  tls.close();
});

test("pod_tls: unusable material changes nothing", () => {
  const tls = new PodTls(material, undefined, { current: undefined });
  const context = tls.context("server");
  assert.throws(() => tls.replace({ ...material, roots: [] }), /no root certificate/);
  assert.equal(tls.context("server"), context);
  assert.notEqual(context.pointer, null);
  tls.close();
});
