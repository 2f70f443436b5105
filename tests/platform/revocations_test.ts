import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { createCertificate, PrivateKey } from "../../src/platform/certificates.ts";
import { RevocationList } from "../../src/platform/revocations.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TestAuthority } from "./authority.ts";
import { handshake, type TlsPair } from "./tls_pair.ts";

let root: TestAuthority;
let issuer: TestAuthority;
/** Two of the root itself, one below an intermediate. */
let alice: TlsMaterial;
let bob: TlsMaterial;
let deep: TlsMaterial;

before(async () => {
  root = await TestAuthority.create("root");
  issuer = await root.intermediate("issuer");
  alice = await root.material();
  bob = await root.material();
  deep = await issuer.material({}, [root.pem]);
});

/** What each side says when only the named one has lists: "" is success. */
function meet(client: TlsMaterial, server: TlsMaterial, lists: readonly string[], who: "client" | "server" | "both") {
  const list = new RevocationList(lists);
  const side = (name: "client" | "server", material: TlsMaterial) =>
    new TlsContext(name, material, { revocations: who === name || who === "both" ? list : undefined });
  const pair = handshake(side("client", client), side("server", server));
  // The contexts keep what they need.
  list.free();
  return pair;
}

/** How it ended for the one who looked. */
function outcome(pair: TlsPair, who: "client" | "server"): { failure: string; revoked: boolean } {
  const done = who === "client" ? pair.clientOutcome : pair.serverOutcome;
  const session = pair[who];
  const result = { failure: done === 1 ? "" : session.failure || `outcome ${done}`, revoked: session.revoked };
  pair.close();
  return result;
}

const GOOD = { failure: "", revoked: false };
const REVOKED = { failure: "certificate verification failed: certificate revoked", revoked: true };

describe("revocations: handshakes", () => {
  test("revocations: either side refuses a revoked peer, and only that one", async () => {
    const list = [await root.crl([bob.chain[0]])];
    assert.deepEqual(outcome(meet(alice, bob, list, "client"), "client"), REVOKED);
    assert.deepEqual(outcome(meet(bob, alice, list, "server"), "server"), REVOKED);
    assert.deepEqual(outcome(meet(alice, alice, list, "both"), "client"), GOOD);
    assert.deepEqual(outcome(meet(alice, alice, list, "both"), "server"), GOOD);
    // What one has on its own chain is for others to judge.
    assert.deepEqual(outcome(meet(bob, alice, list, "client"), "client"), GOOD);
  });

  test("revocations: the refused peer is told by the alert for it", async () => {
    const pair = meet(alice, bob, [await root.crl([bob.chain[0]])], "client");
    assert.notEqual(pair.server.handshake(), 1);
    assert.match(pair.server.failure, /the peer did not accept our certificate \(TLS alert 44: certificate revoked\)/);
    pair.close();
  });

  test("revocations: the whole chain is looked up", async () => {
    const leafList = await issuer.crl([deep.chain[0]]);
    const issuerList = await root.crl([deep.chain[1]]);
    assert.deepEqual(outcome(meet(alice, deep, [leafList], "client"), "client"), REVOKED);
    assert.deepEqual(outcome(meet(alice, deep, [issuerList], "client"), "client"), REVOKED);
    assert.deepEqual(outcome(meet(alice, deep, [await issuer.crl([]), issuerList], "client"), "client"), REVOKED);
    assert.deepEqual(outcome(meet(alice, deep, [await issuer.crl([]), await root.crl([])], "client"), "client"), GOOD);
  });

  test("revocations: an issuer without a list revokes nothing", async () => {
    const other = await TestAuthority.create("other");
    const list = [await other.crl([alice.chain[0], deep.chain[0]])];
    assert.deepEqual(outcome(meet(alice, deep, list, "both"), "client"), GOOD);
    assert.deepEqual(outcome(meet(deep, alice, list, "both"), "server"), GOOD);
    assert.deepEqual(outcome(meet(alice, deep, [await issuer.crl([])], "both"), "client"), GOOD);
    assert.deepEqual(outcome(meet(alice, bob, [], "both"), "client"), GOOD);
  });

  test("revocations: a list counts before and after its time", async () => {
    for (
      const when of [
        { thisUpdateMs: -7_200_000, nextUpdateMs: -3_600_000 },
        { thisUpdateMs: 3_600_000, nextUpdateMs: 7_200_000 },
      ]
    ) {
      const list = [await root.crl([bob.chain[0]], when)];
      assert.deepEqual(outcome(meet(alice, bob, list, "client"), "client"), REVOKED);
      assert.deepEqual(outcome(meet(alice, alice, list, "client"), "client"), GOOD);
    }
  });

  test("revocations: a tolerated fault hides no other one", async () => {
    const foreign = await TestAuthority.create("foreign");
    const list = [await root.crl([], { nextUpdateMs: -1_000 })];
    const stranger = await foreign.material({}, [root.pem]);
    assert.match(
      outcome(meet(alice, stranger, list, "client"), "client").failure,
      /verification failed: unable to get/,
    );
    const expired = await root.material({ notBeforeMs: -7_200_000, notAfterMs: -1_000 });
    assert.match(outcome(meet(alice, expired, list, "client"), "client").failure, /certificate has expired/);
    const wrongUse = await root.material({ usages: ["1.3.6.1.5.5.7.3.2"] });
    assert.match(outcome(meet(alice, wrongUse, list, "client"), "client").failure, /unsuit|purpose/);
  });

  test("revocations: a list that its issuer did not sign refuses the issuer's certificates rather than none", async () => {
    const forger = await TestAuthority.create("root");
    const forged = [await root.crl([], { signer: forger, keyIdentifier: false })];
    const { failure, revoked } = outcome(meet(alice, bob, forged, "client"), "client");
    assert.match(failure, /CRL signature failure/);
    assert.equal(revoked, false);
  });

  test("revocations: after a change of roots each of two roots of one name has its own list", async () => {
    const next = await TestAuthority.create("root");
    const roots = [root.pem, next.pem];
    const old = { ...alice, roots };
    const renewed = await next.material({}, roots);
    const lists = [await root.crl([bob.chain[0]]), await next.crl([])];
    assert.deepEqual(outcome(meet(old, renewed, lists, "both"), "client"), GOOD);
    assert.deepEqual(outcome(meet(renewed, old, lists, "both"), "client"), GOOD);
    assert.deepEqual(outcome(meet(renewed, { ...bob, roots }, lists, "client"), "client"), REVOKED);
  });

  test("revocations: a list that OpenSSL does not understand in full refuses", async () => {
    const list = [await root.crl([], { extensions: { "1.2.3.4": new Uint8Array([5, 0]) } })];
    assert.match(outcome(meet(alice, bob, list, "client"), "client").failure, /unhandled critical CRL extension/i);
  });

  test("revocations: thousands of entries are looked up too", async () => {
    const many = await Promise.all(Array.from({ length: 50 }, () => root.leaf()));
    const list = [await root.crl([...many.map(({ chain }) => chain[0]), bob.chain[0]])];
    assert.deepEqual(outcome(meet(alice, bob, list, "client"), "client"), REVOKED);
    assert.equal(new RevocationList(list).revoked, 51);
  });

  test("revocations: lists by the openssl program, PEM and all, are understood", () => {
    const directory = mkdtempSync(join(tmpdir(), "ambit-crl-"));
    const [rootKey, leafKey] = [new PrivateKey(), new PrivateKey()];
    try {
      const rootPem = createCertificate(rootKey, { uri: undefined, serialNumber: 1, lifeSeconds: 3600 });
      const uri = "spiffe://test/ns/a/sa/b";
      const leaf = createCertificate(leafKey, { uri, serialNumber: 4711, lifeSeconds: 3600 }, rootKey);
      writeFileSync(join(directory, "root.pem"), rootPem);
      writeFileSync(join(directory, "root.key"), rootKey.toPem());
      writeFileSync(
        join(directory, "index"),
        "R\t360101000000Z\t250101000000Z,keyCompromise\t1267\tunknown\t/O=leaf\n",
      );
      writeFileSync(join(directory, "number"), "01\n");
      writeFileSync(
        join(directory, "cnf"),
        `[ca]\ndefault_ca=a\n[a]\ndatabase=${directory}/index\ncrlnumber=${directory}/number\ndefault_md=sha256\n`,
      );
      const pem = execFileSync("openssl", [
        ...["ca", "-config", join(directory, "cnf"), "-gencrl", "-crldays", "30"],
        ...["-cert", join(directory, "root.pem"), "-keyfile", join(directory, "root.key")],
      ], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
      const material = { privateKey: leafKey.toPem(), chain: [leaf], roots: [rootPem] };
      assert.deepEqual(outcome(meet(material, material, [pem], "client"), "client"), REVOKED);
    } finally {
      rootKey.free();
      leafKey.free();
      rmSync(directory, { recursive: true });
    }
  });
});

describe("revocations: live connections", () => {
  test("revocations: a chain that was good is found revoked by a list that came later", async () => {
    const before = new RevocationList([await root.crl([])]);
    const pair = meet(alice, deep, [await root.crl([])], "both");
    assert.equal(pair.clientOutcome, 1);
    const cases: readonly [string[], number][] = [
      [[await issuer.crl([deep.chain[0]])], 23],
      [[await root.crl([deep.chain[1]])], 23],
      [[await issuer.crl([]), await root.crl([deep.chain[1]], { nextUpdateMs: -1_000 })], 23],
    ];
    for (const [lists, code] of cases) {
      const list = new RevocationList(lists);
      assert.deepEqual(pair.client.checkRevocation(list), { code, message: "certificate revoked" });
      assert.equal(pair.server.checkRevocation(list), undefined, "the client's own certificate is good");
      list.free();
    }
    assert.equal(pair.client.checkRevocation(before), undefined);
    assert.equal(pair.client.checkRevocation(new RevocationList([])), undefined);
    pair.close();
  });

  test("revocations: the same serial number under another issuer is somebody else", async () => {
    const [a, b] = [new PrivateKey(), new PrivateKey()];
    const other = await TestAuthority.create("other");
    const pair = meet(alice, bob, [], "both");
    const list = new RevocationList([await other.crl([bob.chain[0]])]);
    assert.equal(pair.client.checkRevocation(list), undefined);
    pair.close();
    a.free();
    b.free();
  });

  test("revocations: a certificate whose life is over meanwhile is not ended for that", async () => {
    const short = await root.material({ notAfterMs: 1_500 });
    const pair = meet(alice, short, [], "both");
    assert.equal(pair.clientOutcome, 1);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    // Named by a list of another issuer, so that the chain is verified in full.
    const other = await TestAuthority.create("other");
    const list = new RevocationList([await other.crl([short.chain[0]])]);
    assert.equal(pair.client.checkRevocation(list), undefined);
    pair.close();
  });

  test("revocations: without a chain there is nothing to look up", async () => {
    const list = new RevocationList([await root.crl([])]);
    const pair = meet(alice, await (await TestAuthority.create("x")).material(), [], "both");
    assert.equal(pair.server.checkRevocation(list), "unknown");
    pair.close();
  });
});

describe("revocations: material", () => {
  test("revocations: tells how many lists and entries there are, and when the first should be replaced", async () => {
    const soon = Math.floor((Date.now() + 60_000) / 1_000) * 1_000;
    const list = new RevocationList([
      await root.crl([alice.chain[0], bob.chain[0]]),
      await issuer.crl([], { nextUpdateMs: soon - Date.now() }),
    ]);
    assert.equal(list.size, 2);
    assert.equal(list.revoked, 2);
    assert.ok(Math.abs(list.nextUpdateMs! - soon) <= 1_000);
    assert.equal(new RevocationList([]).nextUpdateMs, undefined);
  });

  test("revocations: what is no list is refused by its place, and nothing is left behind", async () => {
    const good = await root.crl([]);
    for (const bad of ["", "text", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", alice.chain[0]]) {
      assert.throws(() => new RevocationList([good, bad]), /revocation lists: cannot read list 2 of 2/);
    }
    assert.deepEqual(outcome(meet(alice, bob, [good], "both"), "client"), GOOD);
  });

  test("revocations: a delta list is refused: alone it would look complete", async () => {
    const delta = await root.crl([], { extensions: { "2.5.29.27": new Uint8Array([2, 1, 1]) } });
    assert.throws(() => new RevocationList([delta]), /list 1 of 1 is a delta CRL/);
  });

  test("revocations: freed lists enforce nothing, and say so", async () => {
    const list = new RevocationList([await root.crl([])]);
    list.free();
    list.free();
    assert.throws(() => new TlsContext("client", alice, { revocations: list }), /freed/);
  });
});
