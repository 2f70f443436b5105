/** The CA and what it issues: rotation, refusal, clocks that differ, revocation, foreign trust domains (reference ztunnel 4, 11.1). */
import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ECONNRESET } from "../../../src/platform/errno.ts";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { complete, Load, serveLoad } from "../../e2e/support/load.ts";
import { RawTunnel } from "../../e2e/support/raw_hbone.ts";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { APP_PORT, converse, socketAddress } from "../support/exchange.ts";
import { serialOf } from "../support/mesh_ca.ts";
import type { LabNode } from "../support/node.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import { TestCa } from "../support/test_ca.ts";

/** istiod dates certificates two minutes back and renewal is due at half of their life: this is one every five seconds. */
const SHORT_TTL = "130s";
const MINUTE_MS = 60_000;

/** A node with its own environment, a client on it, and a server on the shared node. */
async function addSpecial(
  scene: Scene,
  name: string,
  env: Readonly<Record<string, string>>,
): Promise<[LabNode, LabPod, LabPod]> {
  const { lab, b, build, namespace } = scene;
  const special = await lab.addNode(build, `${build}-${name}`);
  await special.start(env);
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node: special },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  await lab.settle([special, b], { uids: [client.workloadUid, server.workloadUid] });
  return [special, client, server];
}

async function serialNumber(node: LabNode, identity: string): Promise<string | undefined> {
  const { certificates } = await node.configDump();
  return certificates.find((certificate) => certificate.identity === identity)?.certChain[0]?.serialNumber;
}

scenario("certificate rotation under load: many new certificates from istiod, no failed request", async (scene) => {
  const [special, client, server] = await addSpecial(scene, "rotate", { SECRET_TTL: SHORT_TTL });
  const served = serveLoad(server, APP_PORT);
  const load = new Load(4, () => client.connect(server.ip(), APP_PORT));
  const serials = new Set<string>();
  await eventually(async () => {
    serials.add(await serialNumber(special, client.identity) ?? "");
    assert.ok(serials.size >= 4, `${serials.size} certificates so far`);
  }, 60_000);
  await load.stop();
  served.close();
  assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
  assert.ok(load.completed > 100);
  await special.stop();
}, { sideBySide: true });

scenario(
  "CA refusing for a time: the reason is told, what is valid is used, and it recovers by itself",
  async (scene) => {
    const { lab, namespace } = scene;
    const ca = await TestCa.start(lab);
    const [special, client, server] = await addSpecial(scene, "refused", ca.env);
    await converse({ client, server, path: "hbone" });
    ca.behave({ kind: "refuse" });
    await pause(100);
    const mark = special.ztunnel.mark;
    const [late] = await lab.preparePods({ name: "late", namespace, node: special }) as [LabPod];
    // The node agent gives up on the pod for now; ztunnel goes on trying.
    await special.addPod(late).catch(() => {});
    await special.ztunnel.line((line) => line.includes(late.identity) && line.includes("told to refuse"), mark);
    await eventually(async () => {
      const { certificates } = await special.configDump();
      const { state } = certificates.find(({ identity }) => identity === late.identity)!;
      assert.match(state, /^Unavailable: .*told to refuse/);
    });
    await converse({ client, server, path: "hbone" });
    ca.behave({ kind: "sign" });
    await eventually(() => converse({ client: late, server, path: "hbone" }), 60_000);
    ca.stop();
    await special.stop();
  },
  { sideBySide: true },
);

scenario(
  "clock skew: a certificate of the future serves from its time on, one of the past never; both are told",
  async (scene) => {
    const { lab, namespace } = scene;
    const ca = await TestCa.start(lab);
    // The CA's clock is ahead: what it signs begins a little later.
    const aheadMs = 15_000;
    ca.behave({ kind: "sign", fromMs: aheadMs, untilMs: 120 * MINUTE_MS });
    await pause(100);
    const [special, client, server] = await addSpecial(scene, "skewed", ca.env);
    const validMs = performance.now() + aheadMs;
    await special.ztunnel.line((line) => line.includes(client.identity) && line.includes("becomes valid at"));
    assert.equal(await client.refusal(server.ip(), APP_PORT, 20_000), ECONNRESET);
    // Now it is behind: what it signs is over already.
    ca.behave({ kind: "sign", fromMs: -120 * MINUTE_MS, untilMs: -60 * MINUTE_MS });
    await pause(100);
    const mark = special.ztunnel.mark;
    const asked = ca.events.length;
    const [late] = await lab.preparePods({ name: "late", namespace, node: special }) as [LabPod];
    await special.addPod(late).catch(() => {});
    await special.ztunnel.line((line) => line.includes(late.identity) && line.includes("expired at"), mark);
    await eventually(async () => {
      const { certificates } = await special.configDump();
      assert.match(
        certificates.find(({ identity }) => identity === late.identity)!.state,
        /^Unavailable: .*expired at/,
      );
    });
    await pause(validMs - performance.now());
    await eventually(() => converse({ client, server, path: "hbone" }), 30_000);
    assert.ok(ca.events.length - asked < 20, `${ca.events.length - asked} requests: it hammers the CA`);
    ca.behave({ kind: "sign" });
    await eventually(() => converse({ client: late, server, path: "hbone" }), 60_000);
    ca.stop();
    await special.stop();
  },
  { sideBySide: true },
);

scenario("trust_domain_mismatch_rejected: a client of another trust domain gets no tunnel", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [prober, server] = await lab.addPods(
    { name: "prober", namespace, node: a, captured: false },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  await lab.settle([b], { uids: [server.workloadUid] });
  const listening = server.listen(APP_PORT, (peer) => peer.close());
  const foreign = await lab.plane.ca.issue(`spiffe://elsewhere.example/ns/${namespace}/sa/prober`);
  const mark = b.ztunnel.mark;
  const refused = await RawTunnel.connect(prober, server.ip(), foreign);
  await refused.ended();
  const { fields } = await b.ztunnel.access(({ fields }) => fields["src.addr"]!.startsWith(`${prober.ip()}:`), mark);
  assert.match(fields.error!, /elsewhere\.example/);
  // The same key and chain in this trust domain are welcome.
  const welcome = await RawTunnel.connect(prober, server.ip(), await lab.plane.ca.issue(prober.identity));
  assert.equal((await welcome.connect(socketAddress(server.ip(), APP_PORT)).response()).status, "200");
  welcome.close();
  listening.close();
});

/** A node that reads a list of revoked certificates, and its server. */
async function addRevoking(scene: Scene, name: string) {
  const { lab, a, build, namespace } = scene;
  const node = await lab.addNode(build, `${build}-${name}`);
  const path = join(node.directory, "ca-crl.pem");
  await writeFile(path, await lab.plane.ca.revoke([]));
  await node.start({ CRL_PATH: path });
  const [prober, inside] = await lab.addPods(
    { name: "prober", namespace, node: a, captured: false },
    { name: "inside", namespace, node },
  ) as [LabPod, LabPod];
  await lab.settle([node, a], { uids: [prober.workloadUid, inside.workloadUid] });
  const revoke = async (pem: string) => {
    await writeFile(`${path}.new`, await lab.plane.ca.revoke([serialOf(pem)]));
    await rename(`${path}.new`, path);
  };
  return { node, prober, inside, revoke };
}

scenario("crl_inbound: a revoked client's tunnel is ended, and a new one refused", async (scene) => {
  const { lab } = scene;
  const { node, prober, inside, revoke } = await addRevoking(scene, "crl-in");
  const material = await lab.plane.ca.issue(prober.identity);
  const listening = inside.listen(APP_PORT, (peer) => peer.write("welcome"));
  const tunnel = await RawTunnel.connect(prober, inside.ip(), material);
  const stream = await tunnel.connect(socketAddress(inside.ip(), APP_PORT)).response();
  assert.equal(stream.status, "200");
  await stream.read("welcome");
  const mark = node.ztunnel.mark;
  await revoke(material.chain[0]!);
  await tunnel.ended();
  await node.ztunnel.access(({ fields }) => /revoked/i.test(fields.error ?? ""), mark);
  assert.ok(
    await node.metric("istio_tcp_connections_closed_total", {
      reporter: "destination",
      response_flags: "CERT_REVOKED",
    }) >= 1,
  );
  const refused = await RawTunnel.connect(prober, inside.ip(), material);
  await refused.ended();
  assert.ok(await node.metric("istio_crl_policy_rejections_total", { reporter: "destination" }) >= 1);
  const other = await RawTunnel.connect(prober, inside.ip(), await lab.plane.ca.issue(prober.identity));
  assert.equal((await other.connect(socketAddress(inside.ip(), APP_PORT)).response()).status, "200");
  other.close();
  listening.close();
  await node.stop();
}, { sideBySide: true });

scenario("crl_outbound: a tunnel to a revoked server is ended, and a new one refused", async (scene) => {
  const { lab, b, namespace } = scene;
  const { node, inside, revoke } = await addRevoking(scene, "crl-out");
  const [server] = await lab.addPods({ name: "server", namespace, node: b }) as [LabPod];
  await lab.settle([node], { uids: [server.workloadUid] });
  const [peer, application] = await acceptOne(server, APP_PORT, () => inside.connect(server.ip(), APP_PORT));
  peer.write("hello");
  assert.equal(await application.read(5), "hello");
  const { certificates } = await b.configDump();
  const held = certificates.find(({ identity }) => identity === server.identity)!;
  const pem = Buffer.from((held.certChain[0] as unknown as { pem: string }).pem, "base64").toString();
  await revoke(pem);
  assert.notEqual(await peer.ended(20_000), "closed");
  assert.notEqual(await inside.refusal(server.ip(), APP_PORT), "closed");
  assert.ok(await node.metric("istio_crl_policy_rejections_total", { reporter: "source" }) >= 1);
  peer.close();
  application.close();
  await node.stop();
}, { sideBySide: true });
