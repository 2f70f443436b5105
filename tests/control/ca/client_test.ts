/** Certificates from a CA over real TLS, against a gRPC server in this process. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createCaClient, readCertificateChain } from "../../../src/control/ca/mod.ts";
import type { CaClientOptions } from "../../../src/control/ca/mod.ts";
import { type KeyAndChain, TestAuthority } from "../../platform/authority.ts";
import { FakeIstiod, type FakeIstiodOptions, type SignCall } from "../istiod/fake_istiod.ts";

const IDENTITY = "spiffe://cluster.local/ns/shop/sa/reviews";

let directory: string;
let rootPath: string;
let authority: TestAuthority;
let material: KeyAndChain;
let issued: string[];
let warnings: string[];

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-ca-"));
  rootPath = join(directory, "root.pem");
  authority = await TestAuthority.create("mesh");
  material = await authority.leaf({ dnsNames: ["localhost"] });
  issued = [...(await authority.leaf({ uris: [IDENTITY] })).chain, authority.pem];
});

beforeEach(() => {
  writeFileSync(rootPath, authority.pem);
  warnings = [];
});

after(() => rmSync(directory, { recursive: true }));

interface Lab {
  readonly istiod: FakeIstiod;
  readonly calls: SignCall[];
  client(overrides?: Partial<CaClientOptions>): ReturnType<typeof createCaClient>;
}

async function withCa(sign: FakeIstiodOptions["sign"], run: (lab: Lab) => Promise<void>): Promise<void> {
  const calls: SignCall[] = [];
  const istiod = await FakeIstiod.start({
    material,
    sign(call) {
      calls.push(call);
      return sign!(call);
    },
  });
  const clients: ReturnType<typeof createCaClient>[] = [];
  try {
    await run({
      istiod,
      calls,
      client(overrides = {}) {
        const client = createCaClient({
          endpoint: istiod.endpoint({ root: { kind: "file", path: rootPath } }),
          validityMs: 86_400_000,
          impersonate: true,
          log: { enabled: () => true, log: (_level, _target, message) => warnings.push(message) },
          ...overrides,
        });
        clients.push(client);
        return client;
      },
    });
  } finally {
    for (const client of clients) client.close();
    await istiod.close();
  }
}

test("ca: asks for the identity by impersonation, for the life that is configured", () =>
  withCa(() => issued, async ({ client, calls }) => {
    const { chain, roots } = await client().requestCertificate(IDENTITY, "CSR");
    assert.deepEqual([chain.length, roots.length], [1, 1]);
    const [{ request }] = calls;
    assert.equal(request.csr, "CSR");
    assert.equal(request.validityDuration, 86_400n);
    assert.deepEqual(request.metadata, { ImpersonatedIdentity: IDENTITY });
  }));

test("ca: a dedicated proxy asks for its token's own identity, without metadata", () =>
  withCa(() => issued, async ({ client, calls }) => {
    await client({ impersonate: false, validityMs: 3_600_000 }).requestCertificate(IDENTITY, "CSR");
    assert.equal(calls[0].request.metadata, undefined);
    assert.equal(calls[0].request.validityDuration, 3_600n);
  }));

test("ca: makes calls over one connection, each with the token of its moment", () =>
  withCa(() => issued, async ({ istiod, client, calls }) => {
    const path = join(directory, "token");
    writeFileSync(path, "one");
    const endpoint = istiod.endpoint({
      root: { kind: "file", path: rootPath },
      token: { kind: "file", path },
      headers: [["x-tenant", "blue"]],
    });
    const ca = client({ endpoint });
    await Promise.all(Array.from({ length: 8 }, () => ca.requestCertificate(IDENTITY, "CSR")));
    writeFileSync(path, "two");
    await ca.requestCertificate(IDENTITY, "CSR");
    assert.equal(istiod.connections, 1);
    const tokens = calls.map(({ headers }) => headers.get("authorization"));
    assert.deepEqual(tokens, [...Array(8).fill("Bearer one"), "Bearer two"]);
    assert.equal(calls[0].headers.get("clusterid"), "Kubernetes");
    assert.equal(calls[0].headers.get("x-tenant"), "blue");
  }));

test("ca: takes the chain apart into leaf, intermediates and every root of the last entry", async () => {
  const other = await TestAuthority.create("other");
  const intermediate = await authority.intermediate();
  const { chain } = await intermediate.leaf({ uris: [IDENTITY] });
  const answer = readCertificateChain([...chain, `${authority.pem}\n# comment\n${other.pem}`]);
  assert.deepEqual(answer.chain.map((pem) => pem.trim()), chain.map((pem) => pem.trim()));
  assert.deepEqual(answer.roots.map((pem) => pem.trim()), [authority.pem.trim(), other.pem.trim()]);
});

test("ca: refuses a chain that nobody could verify", () => {
  const leaf = issued[0];
  assert.throws(() => readCertificateChain([]), /empty chain/);
  assert.throws(() => readCertificateChain([leaf]), /no root certificate present/);
  assert.throws(() => readCertificateChain([leaf, "text"]), /last entry holds no root certificate/);
  assert.throws(() => readCertificateChain(["text", leaf]), /entry 1 of 2 is no certificate/);
  assert.throws(() => readCertificateChain([leaf, "", leaf]), /entry 2 of 3 is no certificate/);
});

test("ca: tells why the CA refused", () =>
  withCa(() => {
    throw new ConnectError("caller does not have pods on this node", Code.PermissionDenied);
  }, async ({ client }) => {
    await assert.rejects(
      client().requestCertificate(IDENTITY, "CSR"),
      /the CA https:.* answered permission_denied: caller does not have pods on this node/,
    );
  }));

test("ca: gives up a call that is not answered", () =>
  withCa(() => new Promise(() => {}), async ({ client }) => {
    await assert.rejects(
      client({ deadlineMs: 200 }).requestCertificate(IDENTITY, "CSR"),
      /did not answer within 0.2 s/,
    );
  }));

test("ca: connects anew after the connection was lost", () =>
  withCa(() => issued, async ({ istiod, client }) => {
    const ca = client();
    await ca.requestCertificate(IDENTITY, "CSR");
    istiod.cut();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await ca.requestCertificate(IDENTITY, "CSR");
    assert.equal(istiod.connections, 2);
  }));

test("ca: connects anew after a GOAWAY", () =>
  withCa(() => issued, async ({ istiod, client }) => {
    const ca = client();
    await ca.requestCertificate(IDENTITY, "CSR");
    istiod.goAway();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await ca.requestCertificate(IDENTITY, "CSR");
    assert.equal(istiod.connections, 2);
  }));

test("ca: takes a new root with the next request, and lets calls under way finish on the old connection", () => {
  const waiting: (() => void)[] = [];
  let hold = true;
  return withCa(
    () => hold ? new Promise((resolve) => waiting.push(() => resolve(issued))) : issued,
    async ({ istiod, client, calls }) => {
      const ca = client();
      const slow = ca.requestCertificate(IDENTITY, "CSR");
      while (calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      hold = false;
      writeFileSync(rootPath, (await TestAuthority.create("new")).pem + authority.pem);
      await ca.requestCertificate(IDENTITY, "CSR");
      assert.equal(istiod.connections, 2);
      for (const finish of waiting) finish();
      assert.equal((await slow).chain.length, 1);
    },
  );
});

test("ca: keeps the connection when the new roots cannot be read or do not fit, and takes them when they do", () =>
  withCa(() => issued, async ({ istiod, client }) => {
    const ca = client();
    await ca.requestCertificate(IDENTITY, "CSR");
    writeFileSync(rootPath, "half a fi");
    await ca.requestCertificate(IDENTITY, "CSR");
    assert.equal(istiod.connections, 1);
    assert.match(warnings.at(-1)!, /the last ones stay/);
    writeFileSync(rootPath, (await TestAuthority.create("stranger")).pem);
    await ca.requestCertificate(IDENTITY, "CSR");
    assert.match(warnings.at(-1)!, /the old one stays/);
    writeFileSync(rootPath, (await TestAuthority.create("new")).pem + authority.pem);
    const before = istiod.connections;
    await ca.requestCertificate(IDENTITY, "CSR");
    assert.equal(istiod.connections, before + 1);
  }));

test("ca: says when there is no root to trust it by", () =>
  withCa(() => issued, async ({ istiod, client }) => {
    const endpoint = istiod.endpoint({ root: { kind: "file", path: join(directory, "missing.pem") } });
    await assert.rejects(client({ endpoint }).requestCertificate(IDENTITY, "CSR"), /cannot read the root certificate/);
    assert.equal(istiod.connections, 0);
  }));

test("ca: refuses to be used after its end", () =>
  withCa(() => issued, async ({ client }) => {
    const ca = client();
    ca.close();
    await assert.rejects(ca.requestCertificate(IDENTITY, "CSR"), /is closed/);
  }));
