/** Calls to the proxy's own ports, from everywhere (reference ztunnel 11.1: malicious_calls_inpod, test_hbone_metrics_access). */
import assert from "node:assert/strict";
import { httpOver } from "../../e2e/support/http.ts";
import { pause } from "../../e2e/support/wait.ts";
import { ztunnelPodObject } from "../support/objects.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";

const OWN_PORTS = [15001, 15006, 15008, 15080, 15000, 15020, 15021];
const ANSWERING = new Set([15020, 15021]);

/** What an HTTP request gets: the status, or that there is no answer. */
async function probe(pod: LabPod, ip: string, port: number): Promise<number | "nothing"> {
  try {
    const path = port === 15021 ? "/healthz/ready" : port === 15020 ? "/metrics" : "/config_dump";
    const { status } = await httpOver(await pod.connect(ip, port), path);
    return Number.isInteger(status) ? status : "nothing";
  } catch {
    return "nothing";
  }
}

scenario(
  "malicious_calls_inpod: no recursion, the admin port is out of reach, readiness and metrics only at ztunnel's address",
  async (scene) => {
    const { lab, a, namespace } = scene;
    const [captured, plain] = await lab.addPods(
      { name: "captured", namespace, node: a },
      { name: "plain", namespace, node: a, captured: false },
    ) as [LabPod, LabPod];
    await lab.settle([a], { uids: [captured.workloadUid, plain.workloadUid] });
    const cpuMs = a.ztunnel.cpuMs;
    const started = performance.now();
    for (const pod of [captured, plain]) {
      for (const ip of [a.ip, captured.ip(), "127.0.0.1"]) {
        await Promise.all(OWN_PORTS.map(async (port) => {
          const outcome = await probe(pod, ip, port);
          const wanted = ip === a.ip && ANSWERING.has(port) ? 200 : "nothing";
          assert.equal(outcome, wanted, `${pod.name} to ${ip}:${port}`);
        }));
      }
    }
    // A call that calls itself burns a core.
    await pause(300);
    const share = (a.ztunnel.cpuMs - cpuMs) / (performance.now() - started);
    assert.ok(share < 0.9, `${share} cores`);
  },
);

scenario(
  "test_hbone_metrics_access: a scrape from a pod comes over HBONE, into ztunnel's own listener",
  async (scene) => {
    const { lab, a, b, namespace } = scene;
    const [client] = await lab.addPods({ name: "client", namespace, node: a }) as [LabPod];
    const object = ztunnelPodObject(b.podName, b.name, b.ip);
    const label = (value: string | null) =>
      lab.plane.api.patch(object, { metadata: { labels: { "networking.istio.io/tunnel": value } } });
    // As the chart's `podLabels` would have it: otherwise istiod does not say that ztunnel speaks HBONE.
    await label("http");
    const uid = `Kubernetes//Pod/istio-system/${b.podName}`;
    const isTunnel = (wanted: string) =>
      a.knows(({ workloads }) =>
        workloads.find((workload) => workload.uid === uid)?.protocol === wanted ? undefined : `${uid} is not ${wanted}`
      );
    await isTunnel("HBONE");
    const mark = b.ztunnel.mark;
    const { status, body } = await httpOver(await client.connect(b.ip, 15020), "/metrics", {
      headers: { "accept-encoding": "identity" },
    });
    assert.equal(status, 200);
    assert.match(body, /# EOF\n$/);
    const { fields } = await b.ztunnel.access(
      ({ fields }) => fields["src.workload"] === "client" && fields["src.namespace"] === namespace,
      mark,
    );
    assert.equal(fields.direction, "inbound");
    assert.equal(fields["src.identity"], client.identity);
    assert.equal(fields["dst.identity"], "spiffe://cluster.local/ns/istio-system/sa/ztunnel");
    assert.equal(fields["dst.hbone_addr"], `${b.ip}:15020`);
    await label(null);
    await isTunnel("TCP");
  },
);
