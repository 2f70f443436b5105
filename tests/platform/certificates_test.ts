import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, describe, test } from "node:test";
import { createCertificate, createRequest, PrivateKey, readCertificate } from "../../src/platform/certificates.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TLS_WANT_READ } from "../../src/platform/tls_session.ts";
import { TestAuthority } from "./authority.ts";
import { handshake, tryHandshake } from "./tls_pair.ts";

const URI = "spiffe://td/ns/a/sa/b";
let authority: TestAuthority;

before(async () => {
  authority = await TestAuthority.create();
});

function withKey<T>(use: (key: PrivateKey) => T): T {
  const key = new PrivateKey();
  try {
    return use(key);
  } finally {
    key.free();
  }
}

function openssl(input: string, ...args: readonly string[]): string {
  return execFileSync("openssl", args, { input, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"] });
}

describe("certificates: keys", () => {
  test("certificates: a key is P-256 in PKCS#8, and a new one each time", () => {
    const first = withKey((key) => key.toPem());
    assert.match(first, /^-----BEGIN PRIVATE KEY-----\n/);
    assert.match(openssl(first, "pkey", "-text", "-noout"), /ASN1 OID: prime256v1/);
    assert.notEqual(first, withKey((key) => key.toPem()));
  });
});

describe("certificates: reading", () => {
  test("certificates: reads serial, times and names of the first certificate of a text", async () => {
    const { chain } = await authority.leaf({ uris: [URI, "https://x/y"], dnsNames: ["d.example"] });
    const facts = readCertificate(`leading text\n${chain[0]}\n${authority.pem}`);
    const text = openssl(chain[0], "x509", "-noout", "-serial", "-dates");
    assert.equal(BigInt(facts.serialNumber), BigInt("0x" + (/serial=(\w+)/.exec(text) as RegExpExecArray)[1]));
    assert.equal(facts.notBeforeMs, Date.parse((/notBefore=(.*)/.exec(text) as RegExpExecArray)[1]));
    assert.equal(facts.notAfterMs, Date.parse((/notAfter=(.*)/.exec(text) as RegExpExecArray)[1]));
    assert.deepEqual(facts.uris, [URI, "https://x/y"]);
    assert.deepEqual(readCertificate(authority.pem).uris, []);
  });

  test("certificates: reads times of both ASN.1 forms", async () => {
    // UTCTime up to 2049, GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5).
    const years = 365.25 * 24 * 3_600_000;
    const { chain } = await authority.leaf({ notAfterMs: 60 * years });
    const { notAfterMs } = readCertificate(chain[0]);
    assert.ok(Math.abs(notAfterMs - (Date.now() + 60 * years)) < 60_000);
  });

  test("certificates: what is no certificate throws", () => {
    for (const text of ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]) {
      assert.throws(() => readCertificate(text), /certificates: cannot read a certificate from PEM/);
    }
  });

  test("certificates: names that are no names are none, and disturb no connection", async () => {
    const good = await authority.material();
    const pair = handshake(new TlsContext("client", good), new TlsContext("server", good));
    const broken = await authority.material({ rawNames: new Uint8Array([0x30, 0x05, 0x86, 0x7f, 1]) });
    assert.deepEqual(readCertificate(broken.chain[0]).uris, []);
    assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    // Whoever presents such a certificate is refused, and the next handshake is as good as any.
    assert.notEqual(tryHandshake(broken, good).server, "");
    assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    pair.close();
  });

  test("certificates: a zero byte in a name does not end it", async () => {
    const name = new TextEncoder().encode(`${URI}\0.example`);
    const der = new Uint8Array([0x30, name.length + 2, 0x86, name.length, ...name]);
    const { chain } = await authority.leaf({ rawNames: der });
    assert.deepEqual(readCertificate(chain[0]).uris, [`${URI}\0.example`]);
  });
});

describe("certificates: making", () => {
  test("certificates: a made pair authenticates itself", () => {
    const material = withKey((root) => {
      const issue = (serialNumber: number): TlsMaterial =>
        withKey((key) => ({
          privateKey: key.toPem(),
          chain: [createCertificate(key, { uri: URI, serialNumber, lifeSeconds: 60 }, root)],
          roots: [createCertificate(root, { uri: undefined, serialNumber: 1, lifeSeconds: 60 })],
        }));
      return [issue(2), issue(3)];
    });
    assert.deepEqual(tryHandshake(material[0], material[1]), { client: "", server: "" });
    const facts = readCertificate(material[0].chain[0]);
    assert.deepEqual(facts.uris, [URI]);
    assert.equal(facts.serialNumber, "2");
    assert.equal(facts.notAfterMs - facts.notBeforeMs, 60_000);
    assert.ok(Math.abs(facts.notBeforeMs - Date.now()) < 10_000);
  });

  test("certificates: a request cannot be made to name more than one URI", () => {
    withKey((key) => {
      for (
        const uri of ["spiffe://a/b,URI:spiffe://a/admin", "spiffe://a/b\n", "spiffe://a b", "spiffe://a/\u00e9", "a;b"]
      ) {
        assert.throws(() => createRequest(key, uri), TypeError);
      }
    });
  });

  test("certificates: making them leaves no error for a connection to find", async () => {
    const good = await authority.material();
    const pair = handshake(new TlsContext("client", good), new TlsContext("server", good));
    withKey((key) => {
      createRequest(key, URI);
      createCertificate(key, { uri: URI, serialNumber: 5, lifeSeconds: 1 });
      readCertificate(good.chain[0]);
      assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
      assert.throws(() => readCertificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"));
      assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    });
    pair.close();
  });
});
