/** ambit as waypoint: from a Gateway object to the Deployment that istiod renders for it, with only the image swapped. */
import assert from "node:assert/strict";
import { pause } from "../../e2e/support/wait.ts";
import { type Cluster, eventually } from "../support/cluster.ts";
import { AMBIT_IMAGE } from "../support/images.ts";

import { undisturbed } from "../support/load.ts";
import { serverPod } from "../support/objects.ts";
import { say } from "../support/say.ts";
import { scenario } from "../support/scenario.ts";
import {
  gateway,
  gatewayReady,
  pathPolicy,
  removeGateway,
  WAYPOINT_LABEL,
  waypointProcesses,
} from "../support/waypoint.ts";
import { ready } from "./enrolment.ts";
import { AFTERWARDS_MS } from "./lifecycle.ts";

const MIB = 1024 * 1024;
/** A pod that ends asks for another connection with each answer, until ztunnels know of it: a second of requests. */
const DIALLED = 50;
const ASKED = 200;

export function waypointScenarios(setup: string): void {
  scenario(
    `${setup}: a Gateway with the image in an annotation becomes a waypoint, though it serves nothing`,
    async (cluster) => {
      await cluster.apply(gateway("plain", "lonely", AMBIT_IMAGE));
      await gatewayReady(cluster, "plain", "lonely");
      await healthy(cluster, "plain", "lonely");
      await removeGateway(cluster, "plain", "lonely");
      assert.deepEqual(waypointProcesses(), []);
    },
  );

  scenario(
    `${setup}: a Gateway becomes a waypoint by the chart's overlay, in a pod without any privilege`,
    async (cluster) => {
      await cluster.istio.takeWaypoints();
      await cluster.apply(gateway("mesh", "waypoint"));
      await gatewayReady(cluster, "mesh", "waypoint");
      await healthy(cluster, "mesh", "waypoint");
      const [waypoint, ...others] = waypointProcesses();
      assert.deepEqual(others, []);
      assert.ok(waypoint);
      assert.deepEqual(waypoint.uids, [1337, 1337, 1337, 1337]);
      assert.deepEqual(waypoint.capabilities.map((set) => parseInt(set, 16)), [0, 0, 0]);
    },
  );

  scenario(`${setup}: a namespace gets the waypoint, and no request fails`, async (cluster) => {
    await undisturbed(cluster, async () => {
      await cluster.kubectl("label", "namespace/mesh", `${WAYPOINT_LABEL}=waypoint`);
      await throughWaypoint(cluster);
      await pause(AFTERWARDS_MS);
    });
    // The application sees the waypoint, as behind Istio's own.
    const { status } = await cluster.pod("mesh", GATEWAY_NAME);
    assert.match(await cluster.get("mesh/client", "http://server/"), new RegExp(`peer ${status.podIP}:`));
  });

  scenario(
    `${setup}: a policy by path and identity decides at the waypoint, which says so and logs why`,
    async (cluster) => {
      await cluster.apply(pathPolicy("client", ["/ok"]), ACCESS_LOG);
      try {
        const denied = "403 Forbidden: RBAC: access denied";
        await eventually(async () => assert.equal(await cluster.refusal("mesh/client", "http://server/no"), denied));
        assert.match(await cluster.get("mesh/client", "http://server/ok"), /^hello .* path \/ok/);
        const { metadata } = await cluster.pod("mesh", GATEWAY_NAME);
        await eventually(async () => {
          const log = await cluster.kubectl("-n", "mesh", "logs", metadata.name);
          assert.match(log, /"GET \/ok HTTP\/1\.1" 200 - via_upstream /);
          assert.match(log, /"GET \/no HTTP\/1\.1" 403 - rbac_access_denied_matched_policy\[none\] /);
        });
        // As with Istio's own: who is outside the mesh comes to a captured pod directly, where no waypoint is asked.
        assert.match(await cluster.get("plain/client", "http://server.mesh/no"), /^hello/);
        await cluster.apply(pathPolicy("somebody", ["/ok"]));
        await eventually(async () => assert.equal(await cluster.refusal("mesh/client", "http://server/ok"), denied));
      } finally {
        await cluster.delete("-n", "mesh", "authorizationpolicy/by-path", "telemetry/access-log");
      }
      await eventually(async () => assert.match(await cluster.get("mesh/client", "http://server/no"), /^hello/));
    },
  );

  scenario(`${setup}: an HTTPRoute divides a service by path and by weight`, async (cluster) => {
    await cluster.apply(serverPod("mesh", "pod-other"), OTHER, ROUTE);
    try {
      await ready(cluster, "mesh", "pod-other");
      await eventually(async () => {
        const answer = await cluster.get("mesh/client", "http://server/other/x", "-i");
        assert.match(answer, /^hello from pod-other, .* path \/x$/m);
        assert.match(answer, /^X-Routed: by-path\r?$/m);
      });
      const answers = (await cluster.get("mesh/client", "http://server/", `-n=${ASKED}`)).trim().split("\n");
      assert.equal(answers.length, ASKED);
      const other = answers.filter((line) => line.startsWith("hello from pod-other,")).length;
      // Of 200 with a chance of a quarter: 50, give or take 31 in all but one of ten million runs.
      assert.ok(other > 18 && other < 82, `${other} of ${ASKED}`);
    } finally {
      await cluster.delete("-n", "mesh", "httproute/divided", "service/other", "pod/pod-other");
    }
    await eventually(async () =>
      assert.match(await cluster.get("mesh/client", "http://server/other/x"), /path \/other\/x/)
    );
  });

  scenario(
    `${setup}: istioctl lists the waypoint, sees it in step with istiod, and reads what it has`,
    async (cluster) => {
      const { metadata } = await cluster.pod("mesh", GATEWAY_NAME);
      const pod = `${metadata.name}.mesh`;
      const istioctl = (...args: readonly string[]) => cluster.istio.istioctl(...args);
      assert.match(await istioctl("waypoint", "list", "-n", "mesh"), /^waypoint +\S+ +service +True *$/m);
      assert.match(await istioctl("waypoint", "status", "-n", "mesh"), /^waypoint +True +Programmed/m);
      await eventually(async () => {
        const all = await istioctl("proxy-status", "-n", "mesh", "-v", "1");
        const [line = ""] = new RegExp(`^${pod} .*$`, "m").exec(all) ?? [];
        // Clusters, endpoints, listeners and workloads; of filters and routes on their own there are none.
        assert.deepEqual(line.match(/SYNCED|STALE|NOT SENT|ERROR|IGNORED/g)?.toSorted(), STATES, line);
        assert.match(await istioctl("proxy-status", pod), /Clusters Match\n.*Listeners Match\n.*Routes Match/s);
      });
      assert.match(
        await istioctl("proxy-config", "clusters", pod),
        /^server\.mesh\.svc\.cluster\.local +80 +http +inbound-vip +EDS/m,
      );
      assert.match(await istioctl("proxy-config", "listeners", pod), /^0\.0\.0\.0 +15008 /m);
      const { status } = await cluster.pod("mesh", "app=server");
      const endpoint = new RegExp(`^envoy://connect_originate/${status.podIP}:8080 +HEALTHY +OK `, "m");
      assert.match(await istioctl("proxy-config", "endpoints", pod), endpoint);
      assert.match(await istioctl("proxy-config", "secret", pod), /^default +Cert Chain +ACTIVE +true /m);
      say(`${setup}: the waypoint was ${await figures(cluster)}`);
    },
  );

  scenario(`${setup}: what the waypoint counts names both ends of a request`, async (cluster) => {
    const { status } = await cluster.pod("mesh", GATEWAY_NAME);
    const series = [
      'reporter="waypoint"',
      'source_principal="spiffe://cluster.local/ns/mesh/sa/client"',
      'destination_principal="spiffe://cluster.local/ns/mesh/sa/server"',
      'destination_service="server.mesh.svc.cluster.local"',
    ];
    for (const port of [15020, 15090]) {
      await eventually(async () => {
        const text = await cluster.get("plain/client", `http://${status.podIP}:${port}/stats/prometheus`);
        const counts = text.split("\n").filter((line) => series.every((label) => line.includes(label)));
        const [, of200 = "0"] = /^istio_requests_total{.*response_code="200".*} (\d+)$/m.exec(counts.join("\n")) ?? [];
        assert.ok(Number(of200) >= ASKED / 2, `port ${port}: ${counts.join("\n")}`);
      });
    }
  });

  scenario(`${setup}: the waypoint is rolled out, and no request fails`, async (cluster) => {
    await undisturbed(cluster, async () => {
      await cluster.kubectl("-n", "mesh", "rollout", "restart", "deployment/waypoint");
      await cluster.rolledOut("mesh/waypoint");
      await eventually(async () => assert.equal(waypointProcesses().length, 1));
      await pause(AFTERWARDS_MS);
    }, DIALLED);
    await healthy(cluster, "mesh", "waypoint");
    await throughWaypoint(cluster);
    say(`${setup}: after the load, the waypoint was ${await figures(cluster)}`);
  });

  scenario(`${setup}: the Gateway is deleted: its Deployment goes, and traffic goes on directly`, async (cluster) => {
    await undisturbed(cluster, async () => {
      await cluster.kubectl("label", "namespace/mesh", `${WAYPOINT_LABEL}-`);
      await eventually(async () => assert.equal(await isThroughWaypoint(cluster), false));
      await removeGateway(cluster, "mesh", "waypoint");
      await pause(AFTERWARDS_MS);
    }, DIALLED);
    assert.deepEqual(waypointProcesses(), []);
    const client = await cluster.pod("mesh", "app=client");
    assert.match(await cluster.get("mesh/client", "http://server/"), new RegExp(`peer ${client.status.podIP}:`));
  });
}

const STATES = ["IGNORED", "IGNORED", "SYNCED", "SYNCED", "SYNCED", "SYNCED"];
const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name=waypoint";

/** By the provider that Istio has built in. */
const ACCESS_LOG = {
  apiVersion: "telemetry.istio.io/v1",
  kind: "Telemetry",
  metadata: { name: "access-log", namespace: "mesh" },
  spec: {
    targetRefs: [{ group: "gateway.networking.k8s.io", kind: "Gateway", name: "waypoint" }],
    accessLogging: [{ providers: [{ name: "envoy" }] }],
  },
};

const OTHER = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "other", namespace: "mesh" },
  spec: { selector: { app: "pod-other" }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
};

const ROUTE = {
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "divided", namespace: "mesh" },
  spec: {
    parentRefs: [{ group: "", kind: "Service", name: "server", port: 80 }],
    rules: [
      {
        matches: [{ path: { type: "PathPrefix", value: "/other" } }],
        filters: [
          { type: "URLRewrite", urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/" } } },
          { type: "ResponseHeaderModifier", responseHeaderModifier: { set: [{ name: "x-routed", value: "by-path" }] } },
        ],
        backendRefs: [{ name: "other", port: 80 }],
      },
      { backendRefs: [{ name: "server", port: 80, weight: 3 }, { name: "other", port: 80, weight: 1 }] },
    ],
  },
};

/** Its pod is ready, was never restarted, and has no word of warning in its log. */
async function healthy(cluster: Cluster, namespace: string, name: string): Promise<void> {
  const { metadata, status } = await cluster.pod(namespace, `gateway.networking.k8s.io/gateway-name=${name}`);
  assert.equal(status.conditions?.find(({ type }) => type === "Ready")?.status, "True");
  assert.deepEqual(status.containerStatuses?.map(({ restartCount }) => restartCount), [0]);
  const log = await cluster.kubectl("-n", namespace, "logs", metadata.name);
  assert.doesNotMatch(log, /\t(warn|error)\t/, log);
}

async function isThroughWaypoint(cluster: Cluster): Promise<boolean> {
  return /^X-Envoy-Upstream-Service-Time: \d+/m.test(await cluster.get("mesh/client", "http://server/", "-i"));
}

async function throughWaypoint(cluster: Cluster): Promise<void> {
  await eventually(async () => assert.equal(await isThroughWaypoint(cluster), true));
}

/** For whoever reads the run. */
async function figures(cluster: Cluster): Promise<string> {
  const log = await cluster.kubectl("-n", "mesh", "logs", "deployment/waypoint");
  const readyAt = Date.parse(/^(\S+)\t.*\tready\t/m.exec(log)?.[1] ?? "");
  return waypointProcesses().map(({ startedAtMs, residentBytes }) =>
    `ready ${readyAt - startedAtMs} ms after its process began, and has ${Math.round(residentBytes / MIB)} MiB resident`
  ).join(", ");
}
