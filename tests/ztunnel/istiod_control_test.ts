/** From the configuration to what istiod sees, and from what istiod says to the mesh: over real TLS, with the real intake. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { create, toBinary } from "@bufbuild/protobuf";
import { parseArguments } from "../../src/cli/options.ts";
import { buildZtunnelConfig } from "../../src/cli/ztunnel_config.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";
import { ResourceSchema } from "../../src/gen/xds/delta_discovery_pb.ts";
import { AddressSchema } from "../../src/gen/istio/workload/workload_pb.ts";
import { MeshStore, type WorkloadUid } from "../../src/mesh/mod.ts";
import { Registry, renderOpenMetrics } from "../../src/telemetry/mod.ts";
import { followIstiod, type IstiodControl } from "../../src/ztunnel/istiod_control.ts";
import { FakeIstiod, type FakeIstiodOptions, type SignCall } from "../control/istiod/fake_istiod.ts";
import { type KeyAndChain, TestAuthority } from "../platform/authority.ts";

const ADDRESS = "type.googleapis.com/istio.workload.Address";
const POLICY = "type.googleapis.com/istio.security.Authorization";
const IDENTITY = "spiffe://cluster.local/ns/shop/sa/reviews";

let directory: string;
let authority: TestAuthority;
let material: KeyAndChain;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-control-"));
  authority = await TestAuthority.create("mesh");
  material = await authority.leaf({ dnsNames: ["istiod.istio-system.svc"] });
  writeFileSync(join(directory, "root.pem"), authority.pem);
  writeFileSync(join(directory, "token"), "the-token");
});

after(() => rmSync(directory, { recursive: true }));

function configOf(env: Record<string, string>) {
  const host = { cpus: 2, exists: (path: string) => path.startsWith(directory), readText: () => undefined };
  const loadYaml = () => Promise.reject(new Error("no YAML here"));
  return buildZtunnelConfig(parseArguments([], ztunnelOptions), env, { ...host, loadYaml }, "ztunnel");
}

interface Running {
  readonly istiod: FakeIstiod;
  readonly control: IstiodControl;
  readonly store: MeshStore;
  readonly registry: Registry;
  readonly synced: Promise<void>;
  readonly reasons: string[];
  readonly log: string[];
  /** When workers would have been answered. */
  readonly attended: number[];
}

async function run(
  env: Record<string, string>,
  options: Partial<FakeIstiodOptions>,
  check: (running: Running) => Promise<void>,
): Promise<void> {
  const istiod = await FakeIstiod.start({ material, ...options });
  const address = `https://localhost:${istiod.port}`;
  const config = await configOf({
    XDS_ADDRESS: address,
    CA_ADDRESS: address,
    XDS_ROOT_CA: join(directory, "root.pem"),
    CA_ROOT_CA: join(directory, "root.pem"),
    // The address is a name that the certificate does not have.
    ALT_XDS_HOSTNAME: "istiod.istio-system.svc",
    ALT_CA_HOSTNAME: "istiod.istio-system.svc",
    AUTH_TOKEN: join(directory, "token"),
    XDS_HEADER_x_tenant: "blue",
    CA_HEADER_x_tenant: "green",
    POD_NAME: "ztunnel-abcde",
    POD_NAMESPACE: "istio-system",
    INSTANCE_IP: "10.0.0.9",
    NODE_NAME: "node-1",
    ISTIO_META_CLUSTER_ID: "c1",
    ISTIO_METAJSON_LABELS: '{"app":"ztunnel"}',
    ...env,
  });
  const store = new MeshStore();
  const registry = new Registry({ nowMs: () => performance.now(), retainMs: 0 });
  const reasons: string[] = [];
  const log: string[] = [];
  const attended: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const control = followIstiod({
    config,
    target: {
      store,
      staticConfig: undefined,
      apply: (change) => void store.apply(change),
      flush() {},
      attend: () => attended.push(performance.now()),
      settle: () => Promise.resolve(),
    },
    registry,
    limits: { reached: (limit) => log.push(`limit ${limit}`) },
    log: { enabled: () => true, log: (level, target, message) => log.push(`${level} ${target} ${message}`) },
    schedule(task, delayMs) {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
    synced: resolve,
    waiting: (reason) => reasons.push(reason),
  });
  try {
    await check({ istiod, control, store, registry, synced: promise, reasons, log, attended });
  } finally {
    control.close();
    await istiod.close();
  }
}

/** A workload as istiod sends it; without an address it is one that only its uid reaches. */
function workload(name: string, change: Record<string, unknown> = {}): Uint8Array {
  const uid = `c1//Pod/shop/${name}`;
  const type = { case: "workload" as const, value: { uid, name, namespace: "shop", ...change } };
  const resource = anyPack(AddressSchema, create(AddressSchema, { type }));
  return toBinary(ResourceSchema, create(ResourceSchema, { name: uid, version: "7", resource }));
}

test("istiod_control: says who it is, takes the mesh, refuses by name, and is ready when all of it is in force", () =>
  run({}, {}, async ({ istiod, store, registry, synced, reasons, attended }) => {
    const stream = await istiod.streams.take();
    assert.equal(stream.headers.get("authorization"), "Bearer the-token");
    assert.equal(stream.headers.get("clusterid"), "c1");
    assert.equal(stream.headers.get("x_tenant"), "blue");
    const requests = [await stream.requests.take(), await stream.requests.take()];
    assert.deepEqual(requests.map(({ typeUrl }) => typeUrl), [ADDRESS, POLICY]);
    for (const { node, resourceNamesSubscribe } of requests) {
      assert.equal(node?.id, "ztunnel~10.0.0.9~ztunnel-abcde.istio-system~istio-system.svc.cluster.local");
      assert.equal(node?.metadata?.["NODE_NAME"], "node-1");
      assert.deepEqual(node?.metadata?.["LABELS"], { app: "ztunnel" });
      assert.deepEqual(resourceNamesSubscribe, []);
    }
    const bad = { addresses: [Uint8Array.of(1, 2, 3)] };
    stream.send({ typeUrl: ADDRESS, nonce: "n1", resources: [workload("good"), workload("bad", bad)] });
    const nack = await stream.requests.take();
    assert.equal(nack.responseNonce, "n1");
    assert.match(nack.errorDetail!.message, /^c1\/\/Pod\/shop\/bad: /);
    assert.ok(!nack.errorDetail!.message.includes("good"));
    assert.ok(store.workloadByUid("c1//Pod/shop/good" as WorkloadUid) !== undefined);
    assert.equal(store.workloadByUid("c1//Pod/shop/bad" as WorkloadUid), undefined);
    stream.send({ typeUrl: POLICY, nonce: "n2" });
    assert.equal((await stream.requests.take()).errorDetail, undefined);
    assert.ok(reasons.some((reason) => reason.includes("c1//Pod/shop/bad")), reasons.join("\n"));
    stream.send({ typeUrl: ADDRESS, nonce: "n3", resources: [workload("bad")] });
    assert.equal((await stream.requests.take()).errorDetail, undefined);
    await synced;
    assert.ok(attended.length > 0, "workers were not answered while responses came in");
    const metrics = renderOpenMetrics(registry);
    assert.match(metrics, /istio_xds_message_total\{url="type\.googleapis\.com\/istio\.workload\.Address"\} 2/);
    assert.match(metrics, /ambit_xds_connected 1/);
    assert.match(metrics, /ambit_xds_rejected_resources_total\{url="[^"]*Address"\} 1/);
  }));

test("istiod_control: asks for certificates of its pods, with the CA's own headers", async () => {
  const calls: SignCall[] = [];
  const chain = [...(await authority.leaf({ uris: [IDENTITY] })).chain, authority.pem];
  const sign = (call: SignCall) => {
    calls.push(call);
    return chain;
  };
  await run({ SECRET_TTL: "1h" }, { sign }, async ({ control }) => {
    const issued = await control.requestCertificate(IDENTITY, "CSR");
    assert.equal(issued.chain.length, 1);
    const [{ request, headers }] = calls;
    assert.deepEqual(request.metadata, { ImpersonatedIdentity: IDENTITY });
    assert.equal(request.validityDuration, 3_600n);
    assert.equal(headers.get("x_tenant"), "green");
    assert.equal(headers.get("authorization"), "Bearer the-token");
  });
  const dedicated = { PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "shop/reviews-1/reviews" };
  await run(dedicated, { sign }, async ({ control }) => {
    await control.requestCertificate(IDENTITY, "CSR");
    assert.equal(calls.at(-1)!.request.metadata, undefined);
  });
});

test("istiod_control: on demand asks for nothing until it is asked, and is ready without", () =>
  run({ XDS_ON_DEMAND: "true", ISTIO_META_DNS_CAPTURE: "false" }, {}, async ({ istiod, control, store, synced }) => {
    const stream = await istiod.streams.take();
    const first = await stream.requests.take();
    assert.deepEqual([first.resourceNamesSubscribe, first.resourceNamesUnsubscribe], [["*"], ["*"]]);
    await stream.requests.take();
    stream.send({ typeUrl: POLICY, nonce: "n1" });
    await stream.requests.take();
    await synced;
    const outcome = control.onDemand!("c1//Pod/shop/good", 5_000);
    assert.deepEqual((await stream.requests.take()).resourceNamesSubscribe, ["c1//Pod/shop/good"]);
    stream.send({ typeUrl: ADDRESS, nonce: "n2", resources: [workload("good")] });
    assert.equal(await outcome, "arrived");
    assert.ok(store.workloadByUid("c1//Pod/shop/good" as WorkloadUid) !== undefined);
  }));

test("istiod_control: an empty address switches xDS or the CA off", () =>
  run({ XDS_ADDRESS: "", CA_ADDRESS: "" }, {}, async ({ istiod, control, synced }) => {
    await synced;
    assert.equal(control.onDemand, undefined);
    await assert.rejects(control.requestCertificate(IDENTITY, "CSR"), /there is no CA: CA_ADDRESS is empty/);
    assert.equal(istiod.connections, 0);
  }));

test("istiod_control: says what it waits for when istiod cannot be trusted", () =>
  run({ ALT_XDS_HOSTNAME: "istiod.elsewhere.svc" }, {}, async ({ reasons, log }) => {
    while (!reasons.some((reason) => reason.includes("is for another name"))) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.ok(log.some((line) => line === "warn xds cannot connect; trying again"), log.join("\n"));
  }));
