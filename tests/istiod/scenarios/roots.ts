/** Another root for the whole mesh, as operators change it: trusted beside the old one, then signing, then alone. Comes last. */
import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { complete, Load, serveLoad } from "../../e2e/support/load.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { APP_PORT } from "../support/exchange.ts";
import type { IstiodLab } from "../support/lab.ts";
import { MeshCa } from "../support/mesh_ca.ts";
import type { LabNode } from "../support/node.ts";
import type { LabPod } from "../support/pod.ts";
import { scenarioForAll } from "../support/scenario.ts";

/** istiod dates certificates two minutes back and renewal is due at half of their life: this is one every five seconds. */
const SHORT_TTL = { SECRET_TTL: "130s" };
const PHASE_TIMEOUT_MS = 40_000;

/** Gives istiod its files anew, and the nodes the root that istiod publishes, as the kubelet would. */
async function publish(
  lab: IstiodLab,
  nodes: readonly LabNode[],
  signer: MeshCa,
  roots: readonly string[],
): Promise<void> {
  await signer.writeFiles(join(lab.plane.directory, "istiod/etc/cacerts"), roots);
  await eventually(async () => {
    const published = await lab.rootCertificate();
    assert.equal(published.match(/BEGIN CERTIFICATE/g)?.length, roots.length);
    assert.ok(roots.every((root) => published.includes(root.trim())));
  }, PHASE_TIMEOUT_MS);
  const pem = await lab.rootCertificate();
  for (const { directory } of nodes) {
    const path = join(directory, "var/run/secrets/istio/root-cert.pem");
    await writeFile(`${path}.new`, pem);
    await rename(`${path}.new`, path);
  }
}

/** Every pod's certificate is signed by `signer` and comes with that many roots. */
async function renewed(nodes: readonly LabNode[], signer: MeshCa, roots: number): Promise<void> {
  const intermediate = Buffer.from(`${signer.intermediate}`).toString();
  await Promise.all(nodes.map((node) =>
    eventually(async () => {
      const { certificates } = await node.configDump();
      assert.ok(certificates.length >= 1);
      for (const { identity, certChain, rootCerts } of certificates as unknown as readonly DumpedCertificate[]) {
        assert.equal(rootCerts.length, roots, identity);
        const chain = certChain.map(({ pem }) => Buffer.from(pem, "base64").toString().trim());
        assert.ok(chain.includes(intermediate.trim()), `${identity} is signed by another`);
      }
    }, PHASE_TIMEOUT_MS)
  ));
}

interface DumpedCertificate {
  readonly identity: string;
  readonly certChain: readonly { readonly pem: string }[];
  readonly rootCerts: readonly { readonly pem: string }[];
}

scenarioForAll(
  "root rotation under load: a second root, a new signer, and the old root gone, without a failed request",
  async (lab, scenes) => {
    const nodes: LabNode[] = [];
    const loads = await Promise.all(scenes.map(async ({ build, namespace }) => {
      const pair = await Promise.all(["x", "y"].map((letter) => lab.addNode(build, `${build}-${letter}`)));
      await Promise.all(pair.map((node) => node.start(SHORT_TTL)));
      nodes.push(...pair);
      const [client, server] = await lab.addPods(
        { name: "client", namespace, node: pair[0]! },
        { name: "server", namespace, node: pair[1]! },
      ) as [LabPod, LabPod];
      await lab.settle(pair, { uids: [client.workloadUid, server.workloadUid] });
      return { served: serveLoad(server, APP_PORT), load: new Load(2, () => client.connect(server.ip(), APP_PORT)) };
    }));
    const old = lab.plane.ca;
    const next = await MeshCa.create();
    await publish(lab, nodes, old, [old.root, next.root]);
    await renewed(nodes, old, 2);
    await publish(lab, nodes, next, [old.root, next.root]);
    await renewed(nodes, next, 2);
    await publish(lab, nodes, next, [next.root]);
    await renewed(nodes, next, 1);
    for (const { load, served } of loads) {
      await load.stop();
      served.close();
      assert.ok(load.completed > 50);
      assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
    }
  },
);
