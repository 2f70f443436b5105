import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { runTlsSelfTest, type SelfTestMaterial, type SelfTestPolicy } from "../../src/hbone/self_test.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { TestAuthority } from "../platform/authority.ts";

const CLIENT = "spiffe://td/ns/a/sa/client";
const SERVER = "spiffe://td/ns/b/sa/server";
let own: TestAuthority;
let good: SelfTestMaterial;

before(async () => {
  own = await TestAuthority.create("own");
  const other = await TestAuthority.create("other");
  good = {
    client: await own.material({ uris: [CLIENT] }),
    server: await own.material({ uris: [SERVER] }),
    foreign: await other.material({ uris: [CLIENT] }),
    clientIdentity: CLIENT,
    serverIdentity: SERVER,
  };
});

const policy: SelfTestPolicy = {
  admitServer: (uris, expected) => uris.some((uri) => expected.includes(uri)) ? undefined : "no",
  admitClient: (uris, trustDomain) => uris.some((uri) => uri.startsWith(`spiffe://${trustDomain}/`)) ? undefined : "no",
};

describe("self_test", () => {
  test("self_test: passes where everything is as it should be, and leaves nothing open", () => {
    runTlsSelfTest(good, policy);
    const before = openDescriptors();
    runTlsSelfTest(good, policy);
    assert.equal(openDescriptors(), before);
  });

  test("self_test: fails when the good peers cannot connect", async () => {
    const expired = await own.material({ uris: [SERVER], notAfterMs: -1_000 });
    assert.throws(() => runTlsSelfTest({ ...good, server: expired }, policy), /valid pair of peers could not connect/);
    assert.throws(
      () => runTlsSelfTest({ ...good, client: { ...good.client, roots: good.foreign.roots } }, policy),
      /valid pair of peers could not connect: client: certificate verification failed/,
    );
  });

  test("self_test: fails when a foreign root is trusted, by either side", () => {
    const both = [...good.server.roots, ...good.foreign.roots];
    assert.throws(
      () => runTlsSelfTest({ ...good, server: { ...good.server, roots: both } }, policy),
      /self-test: a client of a foreign root was accepted/,
    );
    assert.throws(
      () => runTlsSelfTest({ ...good, client: { ...good.client, roots: both } }, policy),
      /self-test: a server of a foreign root was accepted/,
    );
  });

  test("self_test: fails for every judgement of names that is not sound", () => {
    const cases: readonly [Partial<SelfTestPolicy>, RegExp][] = [
      [{ admitServer: () => undefined }, /a server with a wrong name was accepted/],
      [{ admitServer: () => "no" }, /a server with the expected name was refused/],
      [{
        admitServer: (uris, expected) =>
          expected.some((name) => uris[0].startsWith(name.slice(0, -8))) ? undefined : "no",
      }, /a server with a wrong name was accepted/],
      [{ admitClient: () => undefined }, /a client of another trust domain was accepted/],
      [{ admitClient: () => "no" }, /a client of the own trust domain was refused/],
      [{
        admitClient: (uris, trustDomain) => uris[0].includes(trustDomain.replace("not-", "")) ? undefined : "no",
      }, /a client of another trust domain was accepted/],
    ];
    for (const [change, message] of cases) {
      assert.throws(() => runTlsSelfTest(good, { ...policy, ...change }), message);
    }
  });

  test("self_test: fails when a peer presents no or another name", async () => {
    const nameless = await own.material({ uris: [] });
    assert.throws(
      () => runTlsSelfTest({ ...good, server: nameless }, policy),
      /server with the expected name was refused/,
    );
    assert.throws(
      () => runTlsSelfTest({ ...good, client: nameless }, policy),
      /client of the own trust domain was refused/,
    );
    const swapped = { ...good, server: good.client };
    assert.throws(() => runTlsSelfTest(swapped, policy), /server with the expected name was refused/);
  });

  test("self_test: says what is at stake", () => {
    assert.throws(() => runTlsSelfTest(good, { ...policy, admitServer: () => undefined }), /not safe to run a mesh on/);
  });
});
