/** TLS12_ENABLED and the key exchanges, as another implementation sees them. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { TlsContext } from "../../src/platform/tls_context.ts";
import { createLoop, type Loop } from "../net/support.ts";
import { opensslClient } from "./raw_client.ts";
import { createMaterial, type Material, settings, TestServer } from "./support.ts";

let material: Material;
let loop: Loop;
let server: TestServer;

before(async () => {
  material = await createMaterial();
});

beforeEach(() => {
  server?.close();
  loop?.reactor.dispose();
  loop = createLoop();
  server = new TestServer(loop, material.server, settings("server", {}, 400));
});

after(() => {
  server.close();
  loop.reactor.dispose();
});

function speakOld(): void {
  server.context.close();
  server.context = new TlsContext("server", material.server, { policy: { tls12: true, pqc: false } });
}

function ask(...args: readonly string[]): Promise<string> {
  return opensslClient(loop, server.port, material.client, [material.authority.pem], "-alpn", "h2", ...args);
}

for (const suite of ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]) {
  test(`tls_policy: TLS 1.2 where it is asked for, with ${suite}, a certificate of both, and no resumption`, async () => {
    speakOld();
    const output = await ask("-tls1_2", "-cipher", suite);
    assert.match(output, new RegExp(`New, TLSv1\\.2, Cipher is ${suite}`));
    assert.match(output, /ALPN protocol: h2/);
    assert.match(output, /Secure Renegotiation IS supported/);
    assert.match(output, /Session-ID: *\n/, "nothing that could be resumed");
    assert.doesNotMatch(output, /TLS session ticket:/);
    assert.equal(server.admitted.length, 1);
  });
}

test("tls_policy: TLS 1.2 has no other suites, needs the client's certificate, and 1.3 goes first", async () => {
  speakOld();
  for (const suite of ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "AES128-GCM-SHA256"]) {
    assert.match(await ask("-tls1_2", "-cipher", suite), /alert handshake failure/, suite);
  }
  const nobody = await opensslClient(loop, server.port, undefined, [material.authority.pem], "-alpn", "h2", "-tls1_2");
  assert.match(nobody, /alert handshake failure/);
  assert.match(await ask("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), /alert|no protocols available|unsupported/);
  assert.deepEqual(server.admitted, []);
  assert.match(await ask(), /New, TLSv1\.3, Cipher is TLS_AES_128_GCM_SHA256/);
});

for (
  const [group, taken] of [["X25519", true], ["P-256", true], ["P-384", true], ["P-521", false], [
    "X448",
    false,
  ]] as const
) {
  test(`tls_policy: the key exchange ${group} is ${taken ? "taken" : "refused"}`, async () => {
    const output = await ask("-groups", group);
    if (taken) assert.match(output, /Verify return code: 0 \(ok\)/);
    else assert.match(output, /alert handshake failure/);
    assert.equal(server.admitted.length, taken ? 1 : 0);
  });
}
