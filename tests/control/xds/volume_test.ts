/** Much over one xDS stream, over real TLS: the runtimes' HTTP/2 differ most in how they keep a transfer going. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { IstiodEndpoint } from "../../../src/control/istiod/mod.ts";
import { openXdsStream, type XdsResponse, type XdsStream } from "../../../src/control/xds/stream.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { FakeIstiod } from "../istiod/fake_istiod.ts";

const ADDRESS = "type.googleapis.com/istio.workload.Address";
const never = new AbortController().signal;

let istiod: FakeIstiod;
let endpoint: IstiodEndpoint;

before(async () => {
  const authority = await TestAuthority.create("mesh");
  istiod = await FakeIstiod.start({ material: await authority.leaf({ dnsNames: ["localhost"] }) });
  endpoint = istiod.endpoint({ root: { kind: "pem", pem: authority.pem } });
});

after(() => istiod.close());

/** The next response. */
function reader(stream: XdsStream): () => Promise<XdsResponse> {
  const iterator = stream.responses[Symbol.asyncIterator]();
  return async () => {
    const { done, value } = await iterator.next();
    if (done === true) throw new Error("the stream ended");
    return value;
  };
}

test("xds stream: takes a push of 50 MB, more than once", async () => {
  const stream = await openXdsStream(endpoint, never);
  const next = reader(stream);
  const first = next();
  const server = await istiod.streams.take();
  const resources = Array.from({ length: 50_000 }, (_, i) => new Uint8Array(1_000).fill(i));
  for (let round = 0; round < 2; round++) {
    server.send({ typeUrl: ADDRESS, nonce: `n${round}`, resources });
    const response = await (round === 0 ? first : next());
    assert.equal(response.nonce, `n${round}`);
    assert.equal(response.resources.length, 50_000);
    for (const i of [0, 1, 255, 256, 49_999]) {
      assert.deepEqual([...response.resources[i].subarray(0, 3)], [i & 0xff, i & 0xff, i & 0xff]);
      assert.equal(response.resources[i].length, 1_000);
    }
    stream.send({ typeUrl: ADDRESS, nonce: response.nonce });
    assert.equal((await server.requests.take()).responseNonce, response.nonce);
  }
  stream.close();
});

test("xds stream: who waits for this thread is attended to while a push of 50 MB comes in", async () => {
  let attended = 0;
  const stream = await openXdsStream(endpoint, never, { attend: () => attended++ });
  const next = reader(stream);
  const first = next();
  const server = await istiod.streams.take();
  server.send({ typeUrl: ADDRESS, nonce: "n", resources: Array.from({ length: 50_000 }, () => new Uint8Array(1_000)) });
  await first;
  assert.ok(attended >= 10, `${attended} times, in some hundred slices`);
  stream.close();
});

test("xds stream: carries many small messages for long, beyond every window", async () => {
  const stream = await openXdsStream(endpoint, never);
  const next = reader(stream);
  const first = next();
  const server = await istiod.streams.take();
  // Four times the stream's window.
  const resources = [new Uint8Array(1_000)];
  const count = 4_000;
  for (let i = 0; i < count; i++) server.send({ typeUrl: ADDRESS, nonce: `n${i}`, resources });
  let response = await first;
  for (let i = 0; i < count; i++) {
    assert.equal(response.nonce, `n${i}`);
    stream.send({ typeUrl: ADDRESS, nonce: response.nonce });
    if (i < count - 1) response = await next();
  }
  for (let i = 0; i < count; i++) assert.equal((await server.requests.take()).responseNonce, `n${i}`);
  stream.close();
});

test("xds stream: goes on after its reader had other things to do", async () => {
  const stream = await openXdsStream(endpoint, never);
  const next = reader(stream);
  const first = next();
  const server = await istiod.streams.take();
  // Many times the windows, while nobody reads.
  const resources = Array.from({ length: 100 }, () => new Uint8Array(10_000));
  const count = 20;
  for (let i = 0; i < count; i++) server.send({ typeUrl: ADDRESS, nonce: `n${i}`, resources });
  assert.equal((await first).nonce, "n0");
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (let i = 1; i < count; i++) {
    const { nonce, resources } = await next();
    assert.deepEqual([nonce, resources.length], [`n${i}`, 100]);
    if (i % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  stream.close();
});
