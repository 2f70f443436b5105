/** Configuration that changes while requests run: none fails that should not, and what is decided holds from then on. */
import assert from "node:assert/strict";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import type { LoadAnswer } from "../apps/protocol.ts";
import type { LoadRun } from "../support/app_process.ts";
import { backend, httpRoute, istioObject, servicePolicy } from "../support/objects.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import { STAGE_WAYPOINT } from "../support/stage.ts";

/** Kept and new connections, with and without a body. */
async function startLoads(scene: Scene, url: string): Promise<readonly LoadRun[]> {
  const { client } = await scene.stage();
  return await Promise.all([
    client.app.load(url, { clients: 4, pauseMs: 5 }),
    client.app.load(url, { clients: 2, pauseMs: 10, newConnections: true }),
    client.app.load(url, { clients: 2, pauseMs: 10, body: 50_000 }),
  ]);
}

async function stopAll(loads: readonly LoadRun[]): Promise<number> {
  let sent = 0;
  for (const answer of await Promise.all(loads.map((load) => load.stop()))) {
    assert.equal(answer.failed, 0, answer.failures.join("\n"));
    sent += answer.sent;
  }
  return sent;
}

/** Waits until the load is answered by these applications and no other. */
async function answeredBy(loads: readonly LoadRun[], ...apps: readonly string[]): Promise<void> {
  const counts = async () => (await loads[0]!.report()).apps;
  await eventually(async () => {
    const before = await counts();
    await pause(300);
    const after = await counts();
    const now = Object.keys(after).filter((app) => after[app]! > (before[app] ?? 0));
    assert.deepEqual(now.sort(), [...apps].sort());
  }, 20_000);
}

scenario(
  "under load: services, routes, weights, endpoints, destination rules and policies come and go, and no request fails",
  async (scene) => {
    const { client, alpha, beta, plain } = await scene.stage();
    const one = await scene.addService("one", { pods: [alpha] });
    await eventually(() => client.app.echo(one.url(), { timeoutMs: 1_000 }), 15_000);
    const loads = await startLoads(scene, one.url());
    await answeredBy(loads, "alpha");

    // A new service, and a route to it in the same moment.
    const two = await scene.addService("two", { pods: [beta] });
    const name = scene.name("moving");
    const routed = (...refs: readonly unknown[]) => httpRoute(name, one, [{ backendRefs: refs }], 80);
    await scene.apply(routed(backend(two)));
    await answeredBy(loads, "beta");
    await scene.apply(routed(backend(one, 80, 50), backend(two, 80, 50)));
    await answeredBy(loads, "alpha", "beta");
    await scene.apply(routed(backend(one)));
    await answeredBy(loads, "alpha");
    await two.remove();
    await scene.delete(routed());

    // Endpoints move: another node, one without a tunnel, all, one.
    await one.setPods(alpha.pod, beta.pod);
    await answeredBy(loads, "alpha", "beta");
    await one.setPods(beta.pod, plain.pod);
    await answeredBy(loads, "beta", "plain");
    await one.setPods(plain.pod);
    await answeredBy(loads, "plain");
    await one.setPods(alpha.pod);
    await answeredBy(loads, "alpha");

    // Settings of its cluster change under it.
    const { namespace } = one;
    for (
      const trafficPolicy of [
        { loadBalancer: { simple: "ROUND_ROBIN" } },
        { connectionPool: { http: { maxRequestsPerConnection: 3 } } },
        { connectionPool: { tcp: { connectTimeout: "3s" } }, outlierDetection: { consecutive5xxErrors: 5 } },
      ]
    ) {
      await scene.apply(istioObject("DestinationRule", namespace, name, { host: one.hostname, trafficPolicy }));
      await pause(700);
    }
    // Policies that let these requests pass.
    const policies = [
      servicePolicy(`${name}-allow`, one, {
        action: "ALLOW",
        rules: [{ from: [{ source: { namespaces: [namespace] } }] }],
      }),
      servicePolicy(`${name}-deny`, one, { action: "DENY", rules: [{ to: [{ operation: { paths: ["/secret*"] } }] }] }),
      servicePolicy(`${name}-audit`, one, { action: "AUDIT", rules: [{}] }),
    ];
    for (const policy of policies) {
      await scene.apply(policy);
      await pause(500);
    }
    await eventually(async () => assert.equal((await client.app.http(one.url("http", "/secret"))).status, 403), 15_000);
    for (const policy of policies) await scene.delete(policy);
    await eventually(async () => assert.equal((await client.app.http(one.url("http", "/secret"))).status, 200), 15_000);

    // Its neighbours come and go.
    for (let i = 0; i < 5; i++) {
      const neighbour = await scene.addService(`neighbour-${i}`, { pods: [beta] });
      await neighbour.remove();
    }
    const sent = await stopAll(loads);
    assert.ok(sent > 500, `${sent} requests`);
  },
  { sideBySide: true },
);

scenario(
  "a change of one service leaves the open connections of another alone: WebSocket, gRPC stream and TCP go on",
  async (scene) => {
    const { client, alpha, beta } = await scene.stage();
    const stays = await scene.addService("stays", { pods: [alpha] });
    const changes = await scene.addService("changes", { pods: [beta] });
    await eventually(() => client.app.echo(stays.url("any"), { timeoutMs: 1_000 }), 15_000);
    const socket = await client.app.webSocket(`ws://${stays.address()}/socket`);
    const chat = await client.app.chat(stays.address("grpc-api"));
    const tcp = await client.pod.connect(stays.vip, 91);
    const download = client.app.http(stays.url("http", "/?pieces=30&every=200"));
    const talk = async () => {
      assert.equal(await socket.talk("a"), "alpha: a");
      assert.equal(await chat.talk("b"), "alpha: b");
      tcp.write("c");
      assert.equal(await tcp.read(8), "alpha: c");
    };
    await talk();
    for (let i = 0; i < 6; i++) {
      const rule = { action: "DENY", rules: [{ to: [{ operation: { paths: [`/${i}`] } }] }] };
      await scene.apply(servicePolicy(scene.name("changing"), changes, rule));
      await scene.apply(
        httpRoute(scene.name("changing"), changes, [{ backendRefs: [backend(changes, 80, i + 1)] }], 80),
      );
      const other = await scene.addService(`other-${i}`, { pods: [beta] });
      await pause(300);
      await talk();
      await other.remove();
    }
    // A new policy of their own service does not cut what was allowed: it decides about requests that come. On TCP, where a path is not seen, a denial
    // of some is one of all, and an open connection is judged anew.
    const rules = [{ to: [{ operation: { paths: ["/closed"] } }] }];
    await scene.apply(servicePolicy(scene.name("stays"), stays, { action: "DENY", rules }));
    await eventually(
      async () => assert.equal((await client.app.http(stays.url("http", "/closed"))).status, 403),
      15_000,
    );
    assert.equal(await socket.talk("a"), "alpha: a");
    assert.equal(await chat.talk("b"), "alpha: b");
    assert.notEqual(await tcp.ended(), "closed");
    assert.match((await download).body, /piece 29\n$/);
    assert.deepEqual(await socket.end(), { code: 1000, wasClean: true });
    assert.equal((await chat.end<{ code: number }>()).code, 0);
    tcp.close();
  },
  { sideBySide: true },
);

scenario(
  "a policy holds from its confirmation on: after the first refusal no request passes, on kept connections neither",
  async (scene) => {
    const { client, stranger, alpha } = await scene.stage();
    const service = await scene.addService("strict", { pods: [alpha] });
    await eventually(() => client.app.echo(service.url(), { timeoutMs: 1_000 }), 15_000);
    const load = await client.app.load(service.url(), { clients: 6, pauseMs: 2 });
    await pause(300);
    const { namespace } = service;
    const only = servicePolicy(scene.name("strict"), service, {
      action: "ALLOW",
      rules: [{ from: [{ source: { principals: [`cluster.local/ns/${namespace}/sa/stranger`] } }] }],
    });
    await scene.apply(only);
    const count = ({ statuses }: LoadAnswer, status: number) => statuses[status] ?? 0;
    await eventually(async () => assert.ok(count(await load.report(), 403) > 0), 15_000);
    // The two workers take it at almost the same moment.
    await pause(300);
    const before = await load.report();
    await pause(500);
    const after = await load.stop();
    assert.equal(count(after, 200), count(before, 200), "requests that passed after the policy was in force");
    assert.deepEqual(Object.keys(after.statuses).sort(), ["200", "403"]);
    assert.ok(count(after, 403) - count(before, 403) > 20);
    assert.equal((await stranger.app.echo(service.url())).app, "alpha");
  },
);

scenario(
  "a service leaves the waypoint and returns: straight to the server meanwhile, and no request fails",
  async (scene) => {
    const { client, alpha, waypoint, lab } = { ...await scene.stage(), lab: scene.lab };
    const service = await scene.addService("leaves", { pods: [alpha] });
    await eventually(() => client.app.echo(service.url(), { timeoutMs: 1_000 }), 15_000);
    const loads = await startLoads(scene, service.url());
    const seenBy = async (ip: string) =>
      await eventually(async () => {
        const { peer } = await client.app.echo(service.url(), { timeoutMs: 2_000 });
        assert.ok(peer.startsWith(`${ip}:`), `the application sees ${peer}`);
      }, 15_000);
    for (let i = 0; i < 2; i++) {
      await seenBy(waypoint.replica.pod.ip());
      await label(lab, service, null);
      await seenBy(client.pod.ip());
      await label(lab, service, STAGE_WAYPOINT);
    }
    await seenBy(waypoint.replica.pod.ip());
    const sent = await stopAll(loads);
    assert.ok(sent > 50, `${sent} requests`);
  },
);

function label(lab: Scene["lab"], service: LabService, waypoint: string | null) {
  return lab.plane.api.patch(service.object, { metadata: { labels: { "istio.io/use-waypoint": waypoint } } });
}

scenario(
  "two waypoint pods, one killed: what it served is lost, what follows goes to the other, and it comes back into use",
  async (scene) => {
    const { client, alpha, namespace } = await scene.stage();
    const waypoint = await scene.addWaypoint({ name: "pair", namespace });
    // On one node: istiod asks for a near one first.
    const second = await waypoint.addReplica(scene.a);
    const service = await scene.addService("pair", { pods: [alpha], waypoint: "pair" });
    const seen = async () => (await client.app.echo(service.url(), { timeoutMs: 2_000 })).peer.split(":")[0];
    await eventually(seen, 15_000);
    const all = async (...ips: readonly string[]) =>
      await eventually(async () => {
        const found = new Set<string | undefined>();
        for (let i = 0; i < 24; i++) found.add(await seen());
        assert.deepEqual([...found].sort(), [...ips].sort());
      }, 20_000);
    const [first] = waypoint.replicas;
    await all(first!.pod.ip(), second.pod.ip());
    await second.container.end("SIGKILL");
    await waypoint.tell(second, false);
    await all(first!.pod.ip());
    const load = await client.app.load(service.url(), { clients: 4, newConnections: true, pauseMs: 10 });
    await second.start();
    await second.ready();
    await waypoint.tell(second, true);
    await all(first!.pod.ip(), second.pod.ip());
    const { failed, failures } = await load.stop();
    assert.equal(failed, 0, failures.join("\n"));
  },
  { sideBySide: true },
);
