import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, describe, test } from "node:test";
import { splitCertificates, TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TlsSession } from "../../src/platform/tls_session.ts";
import { CLIENT_AUTH, SERVER_AUTH, TestAuthority } from "./authority.ts";
import { handshake, tryHandshake } from "./tls_pair.ts";

let authority: TestAuthority;
let foreign: TestAuthority;
let good: TlsMaterial;

before(async () => {
  authority = await TestAuthority.create("root");
  foreign = await TestAuthority.create("foreign");
  good = await authority.material();
});

describe("tls_context: material", () => {
  test("tls_context: refuses what it cannot use and says what that is", async () => {
    const other = await authority.leaf();
    const bad: readonly [Partial<TlsMaterial>, RegExp][] = [
      [{ chain: [] }, /chain is empty/],
      [{ chain: ["no certificate"] }, /chain is empty/],
      [{ chain: [brokenPem("CERTIFICATE")] }, /read a certificate from PEM/],
      [{ chain: [good.chain[0], brokenPem("CERTIFICATE")] }, /read a certificate from PEM/],
      [{ privateKey: "" }, /read the private key from PEM/],
      [{ privateKey: brokenPem("PRIVATE KEY") }, /read the private key from PEM/],
      [{ privateKey: other.privateKey }, /private key.*mismatch/],
      [{ roots: [] }, /no root certificate/],
      [{ roots: ["no certificate"] }, /no root certificate/],
      [{ roots: [brokenPem("CERTIFICATE")] }, /read a certificate from PEM/],
    ];
    for (const [change, message] of bad) {
      for (const side of ["client", "server"] as const) {
        assert.throws(() => new TlsContext(side, { ...good, ...change }), message);
      }
    }
    assert.deepEqual(tryHandshake(good, good), { client: "", server: "" }, "a failure leaves nothing behind");
  });

  test("tls_context: an encrypted key is refused without asking for a passphrase", () => {
    const privateKey = execFileSync("openssl", ["pkcs8", "-topk8", "-v2", "aes256", "-passout", "pass:secret"], {
      input: good.privateKey,
      encoding: "utf8",
    });
    assert.match(privateKey, /ENCRYPTED/);
    assert.throws(() => new TlsContext("client", { ...good, privateKey }), (error: Error) => {
      assert.match(error.message, /read the private key from PEM/);
      // OpenSSL says this of a terminal that it asked and that gave no answer.
      assert.doesNotMatch(error.message, /UI routines|password/);
      return true;
    });
  });

  test("tls_context: a closed one makes no sessions, and closing twice is nothing", () => {
    const context = new TlsContext("client", good);
    context.close();
    context.close();
    assert.throws(() => new TlsSession(context, 0), /closed/);
  });

  test("tls_context: splits a text of several certificates", async () => {
    const text = `comment\n${authority.pem}\n\n${foreign.pem}\ntrailing`;
    assert.equal(splitCertificates(text).length, 2);
    assert.deepEqual(splitCertificates(""), []);
    assert.deepEqual(splitCertificates("-----BEGIN CERTIFICATE-----\ncut"), []);
    const pair = tryHandshake({ ...good, roots: [text] }, await foreign.material({}, [text]));
    assert.deepEqual(pair, { client: "", server: "" });
  });
});

describe("tls_context: who is let in", () => {
  test("tls_context: peers of one root shake hands", () => {
    assert.deepEqual(tryHandshake(good, good), { client: "", server: "" });
  });

  test("tls_context: a client without a certificate is refused", () => {
    const pair = handshake(new TlsContext("client", good, { presents: "nothing" }), new TlsContext("server", good));
    assert.notEqual(pair.serverOutcome, 1);
    assert.match(pair.server.failure, /peer did not return a certificate/);
    pair.close();
  });

  test("tls_context: a peer of a foreign root is refused by either side", async () => {
    const stranger = await foreign.material({}, [authority.pem]);
    assert.match(tryHandshake(stranger, good).server, /certificate verification failed: /);
    assert.match(tryHandshake(good, stranger).client, /certificate verification failed: /);
  });

  test("tls_context: a certificate that signs itself is refused", async () => {
    const self = await TestAuthority.create("self");
    const stranger: TlsMaterial = { ...await self.leaf(), roots: [authority.pem] };
    assert.notEqual(tryHandshake({ ...stranger, chain: [...stranger.chain, self.pem] }, good).server, "");
  });

  test("tls_context: an expired and a not yet valid leaf are refused by either side", async () => {
    const expired = await authority.material({ notBeforeMs: -7_200_000, notAfterMs: -1_000 });
    const future = await authority.material({ notBeforeMs: 600_000 });
    assert.match(tryHandshake(expired, good).server, /certificate has expired/);
    assert.match(tryHandshake(good, expired).client, /certificate has expired/);
    assert.match(tryHandshake(future, good).server, /certificate is not yet valid/);
    assert.match(tryHandshake(good, future).client, /certificate is not yet valid/);
  });

  test("tls_context: a certificate is good for its usages only", async () => {
    const clientOnly = await authority.material({ usages: [CLIENT_AUTH] });
    const serverOnly = await authority.material({ usages: [SERVER_AUTH] });
    assert.deepEqual(tryHandshake(clientOnly, serverOnly), { client: "", server: "" });
    assert.match(tryHandshake(serverOnly, good).server, /unsuit|purpose/);
    assert.match(tryHandshake(good, clientOnly).client, /unsuit|purpose/);
  });

  test("tls_context: a chain may end in any root of the bundle", async () => {
    const both = [foreign.pem, authority.pem];
    const first = await foreign.material({}, both);
    const second = await authority.material({}, both);
    assert.deepEqual(tryHandshake(first, second), { client: "", server: "" });
    assert.deepEqual(tryHandshake(second, first), { client: "", server: "" });
    assert.notEqual(tryHandshake(first, good).server, "", "the bundle of the one who verifies counts");
  });

  test("tls_context: intermediates are sent, and needed", async () => {
    const issuer = await (await authority.intermediate("upper")).intermediate("lower");
    const deep = await issuer.material({}, [authority.pem]);
    assert.equal(deep.chain.length, 3);
    assert.deepEqual(tryHandshake(deep, good), { client: "", server: "" });
    assert.deepEqual(tryHandshake(good, deep), { client: "", server: "" });
    const oneText = { ...deep, chain: [deep.chain.join("\n")] };
    assert.deepEqual(tryHandshake(oneText, good), { client: "", server: "" }, "a chain may come as one text");
    const leafAlone = { ...deep, chain: [deep.chain[0]] };
    assert.match(tryHandshake(leafAlone, good).server, /unable to get/);
  });

  test("tls_context: an ordinary leaf cannot sign for others", async () => {
    const forged = await (await authority.pretender()).material({}, [authority.pem]);
    assert.match(tryHandshake(forged, good).server, /invalid CA certificate/);
  });
});

/** A PEM of the kind, with base64 that is no DER. */
function brokenPem(kind: string): string {
  return `-----BEGIN ${kind}-----\nAAAA\n-----END ${kind}-----\n`;
}
