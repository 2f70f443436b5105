/** The pod's contract (reference waypoint 1): what istiod renders is all that it takes. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ECONNREFUSED } from "../../../../src/platform/errno.ts";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import { scenario, scenarioForAll } from "../support/scenario.ts";
import type { Scene } from "../support/scene.ts";
import { servicePolicy } from "../support/objects.ts";
import { say } from "../support/say.ts";
import type { Replica } from "../support/waypoint.ts";
import { Stopwatch } from "../../../support/stopwatch.ts";

scenario("a Gateway alone: istiod's Deployment is run as it is, is ready in time and serves", async (scene) => {
  const { client, alpha, waypoint } = await scene.stage();
  const { replica } = waypoint;
  say(`${scene.build}: ${Math.round(replica.readyMs)} ms from start to ready`);
  const { startupProbe } = replica.containerSpec;
  assert.ok(replica.readyMs < startupProbe!.failureThreshold * startupProbe!.periodSeconds * 1000);
  const service = await scene.addService("plain", { pods: [alpha] });
  const echo = await eventually(() => client.app.echo(service.url()), 15_000);
  assert.equal(echo.app, "alpha");
  assert.ok(echo.peer.startsWith(`${replica.pod.ip()}:`), `the application sees ${echo.peer}`);
  // A waypoint with no service attached to it is ready as well.
  const idle = await scene.addWaypoint();
  assert.equal((await idle.replica.probe(15021, "/healthz/ready")).status, 200);
});

scenario(
  "the container: uid 1337, no capabilities, no new privileges, nothing that can be written but its volumes",
  async (scene) => {
    const { waypoint } = await scene.stage();
    const { container } = waypoint.replica;
    assert.equal(waypoint.replica.user, 1337);
    for (const ids of ["Uid", "Gid"]) {
      assert.deepEqual(container.status(ids).split("\t"), [
        "1337",
        "1337",
        "1337",
        "1337",
      ]);
    }
    assert.equal(container.status("Groups"), "");
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      assert.match(
        container.status(set),
        /^0+$/,
        set,
      );
    }
    assert.equal(container.status("NoNewPrivs"), "1");
    const mounts = readFileSync(`/proc/${container.pid}/mounts`, "utf8").trim().split("\n").map((line) =>
      line.split(" ")
    );
    const writable = mounts.filter(([, , , options]) => !options!.split(",").includes("ro")).map(([, path]) => path!);
    const volumes = ["/var/run/secrets/workload-spiffe-uds", "/etc/istio/proxy", "/var/lib/istio/data"];
    assert.deepEqual(
      writable.filter((path) => !path.startsWith("/dev/") && path !== "/proc").sort(),
      volumes.toSorted(),
    );
    const threads = Number(container.status("Threads"));
    assert.ok(threads < 100, `${threads} threads`);
  },
);

scenario(
  "ports: tunnels, probes and metrics are open to all, administration to the pod alone, and nothing else is",
  async (scene) => {
    const { waypoint } = await scene.stage();
    const { replica } = waypoint;
    assert.equal((await replica.probe(15021, "/healthz/ready")).status, 200);
    assert.equal((await replica.probe(15021, "/stats/prometheus")).status, 404);
    assert.equal((await replica.probe(15020, "/healthz/ready")).status, 200);
    assert.match((await replica.probe(15020, "/stats/prometheus")).body, /^# TYPE /m);
    assert.match((await replica.probe(15090, "/stats/prometheus")).body, /^# TYPE /m);
    assert.equal((await replica.http(15000, "/server_info")).status, 200);
    await assert.rejects(replica.probe(15000, "/server_info"), { code: ECONNREFUSED });
    // Ending is for who is inside.
    const { status } = await replica.probe(15020, "/quitquitquit");
    assert.ok(status === 403 || status === 404 || status === 405, `${status}`);
    const open = listeningPorts(replica);
    assert.deepEqual(open.filter((port) => ![15000, 15004, 15008, 15020, 15021, 15090].includes(port)), []);
  },
);

function listeningPorts({ container }: Replica): number[] {
  const LISTEN = "0A";
  return ["tcp", "tcp6"].flatMap((name) =>
    readFileSync(`/proc/${container.pid}/net/${name}`, "utf8").trim().split("\n").slice(1)
      .map((line) => line.trim().split(/\s+/)).filter((fields) => fields[3] === LISTEN)
      .map((fields) => parseInt(fields[1]!.split(":")[1]!, 16))
  );
}

scenario(
  "token: with a wrong one it is not ready and says why; the kubelet's next one makes it ready, without a restart",
  async (scene) => {
    const waypoint = await scene.addWaypoint({}, 0);
    const replica = await waypoint.prepareReplica();
    await replica.volumes.mount(replica.spec, replica.containerSpec);
    await replica.volumes.renew(replica.spec, "istio-token", { "istio-token": "no.token.at.all" });
    await replica.start({ mounted: true });
    const refused = await eventually(async () => {
      const { status, body } = await replica.probe(15021, "/healthz/ready");
      assert.equal(status, 503);
      assert.match(body, /authenticat|token|certificate/i);
      return body;
    }, 20_000);
    assert.ok(refused.length < 2_000, refused);
    await assert.rejects(replica.probe(15008, "/"), { code: ECONNREFUSED }, "no tunnel before it is ready").catch(
      () => {},
    );
    await replica.volumes.renew(replica.spec, "istio-token");
    // It asks at longer and longer intervals, and a kubelet would have started it again by then.
    await replica.ready(60_000);
    assert.equal(replica.container.running, true);
  },
  { sideBySide: true },
);

/** istiod makes certificates begin two minutes ago, so half of this life is over in seconds. */
const SHORT_TTL = "130s";

/** Changes to the Deployment's only container, as a user writes them. */
export function withEnvironment(env: Readonly<Record<string, string>>) {
  const list = Object.entries(env).map(([name, value]) => ({ name, value }));
  return { spec: { template: { spec: { containers: [{ name: "istio-proxy", env: list }] } } } };
}

/** Of the certificate that a waypoint shows, asked with another program. */
async function serialOf(scene: Scene, { pod }: Replica): Promise<string> {
  const script =
    `openssl s_client -connect ${pod.ip()}:15008 -alpn h2 </dev/null 2>/dev/null | openssl x509 -noout -serial`;
  return (await scene.lab.plane.inside(["sh", "-c", script])).trim();
}

scenario(
  "certificates: they are renewed under load, each by the token that is there then, without a failed request",
  async (scene) => {
    const { client, alpha, namespace } = await scene.stage();
    const waypoint = await scene.addWaypoint({
      name: "short",
      namespace,
      overlay: withEnvironment({ SECRET_TTL: SHORT_TTL }),
    });
    const service = await scene.addService("short", { pods: [alpha], waypoint: "short" });
    await eventually(() => client.app.echo(service.url()), 15_000);
    const load = await client.app.load(service.url(), { clients: 4, pauseMs: 20 });
    const fresh = await client.app.load(service.url(), { clients: 2, newConnections: true, pauseMs: 20 });
    const serials = new Set<string>();
    await eventually(async () => {
      const serial = await serialOf(scene, waypoint.replica);
      assert.match(serial, /^serial=/);
      if (!serials.has(serial)) await waypoint.replica.volumes.renew(waypoint.replica.spec, "istio-token");
      serials.add(serial);
      assert.ok(serials.size >= 4, `${serials.size} certificates so far`);
    }, 60_000);
    for (const { failed, failures, sent } of [await load.stop(), await fresh.stop()]) {
      assert.equal(failed, 0, failures.join("\n"));
      assert.ok(sent > 100);
    }
  },
  { sideBySide: true },
);

scenario(
  "SIGTERM: what is under way is finished, new requests go elsewhere, and the end comes in time",
  async (scene) => {
    const { client, alpha, namespace } = await scene.stage();
    const waypoint = await scene.addWaypoint({ name: "ending", namespace });
    await waypoint.addReplica(scene.b);
    const service = await scene.addService("ending", { pods: [alpha], waypoint: "ending" });
    await eventually(() => client.app.echo(service.url()), 15_000);
    const kept = await client.app.load(service.url(), { clients: 6, pauseMs: 10 });
    const fresh = await client.app.load(service.url(), { clients: 2, newConnections: true, pauseMs: 10 });
    const posts = await client.app.load(service.url(), { clients: 2, body: 100_000, pauseMs: 10 });
    const slow = Array.from({ length: 6 }, () => client.app.echo(service.url("http", "/?delay=3000")));
    const chats = await Promise.all(Array.from({ length: 4 }, () => client.app.chat(service.address("grpc-api"))));
    await pause(500);
    const { replica } = waypoint;
    const watch = new Stopwatch();
    replica.container.kill("SIGTERM");
    // Its readiness fails at once, and what the cluster makes of it follows.
    await eventually(async () => assert.equal((await replica.probe(15021, "/healthz/ready")).status, 503), 2_000);
    for (const chat of chats) assert.equal(await chat.talk("still here"), "alpha: still here");
    await pause(300);
    await waypoint.tell(replica, false);
    assert.equal(await replica.container.exited, 0);
    const { ms, wallMs } = watch.stop();
    assert.ok(wallMs > 4_000 && ms < 9_000, `the end took ${ms} ms`);
    for (const echo of await Promise.all(slow)) assert.equal(echo.app, "alpha");
    await pause(500);
    for (const { failed, failures } of await Promise.all([kept.stop(), fresh.stop(), posts.stop()])) {
      assert.equal(failed, 0, failures.join("\n"));
    }
    await waypoint.removeReplica(replica);
    for (const chat of chats) await chat.end().catch(() => {});
  },
  { sideBySide: true },
);

scenario("killed and back: the kubelet starts the container again, and traffic is as before", async (scene) => {
  const { client, alpha, namespace } = await scene.stage();
  const waypoint = await scene.addWaypoint({ name: "mortal", namespace });
  const service = await scene.addService("mortal", { pods: [alpha], waypoint: "mortal" });
  await eventually(() => client.app.echo(service.url()), 15_000);
  const denied = servicePolicy("mortal", service, {
    action: "DENY",
    rules: [{ to: [{ operation: { paths: ["/secret"] } }] }],
  });
  await scene.apply(denied);
  await eventually(
    async () => assert.equal((await client.app.http(service.url("http", "/secret"))).status, 403),
    15_000,
  );
  for (let i = 0; i < 2; i++) {
    await waypoint.replica.container.end("SIGKILL");
    // Nobody may pass meanwhile: without the waypoint there is nobody who decides.
    await assert.rejects(client.app.echo(service.url("http", "/secret"), { timeoutMs: 3_000 }));
    await waypoint.replica.start();
    await waypoint.replica.ready();
    await eventually(() => client.app.echo(service.url()), 15_000);
    assert.equal((await client.app.http(service.url("http", "/secret"))).status, 403);
  }
}, { sideBySide: true });

scenarioForAll(
  "istiod gone and back: traffic goes on, a waypoint that starts now waits, and what changed meanwhile is learnt",
  async (lab, scenes) => {
    const parts = await Promise.all(scenes.map(async (scene) => {
      const { client, alpha, beta } = await scene.stage();
      const service = await scene.addService("lonely", { pods: [alpha, beta] });
      const waypoint = await scene.addWaypoint({}, 0);
      const late = await waypoint.prepareReplica();
      await eventually(() => client.app.echo(service.url()), 15_000);
      return {
        scene,
        client,
        alpha,
        service,
        late,
        load: await client.app.load(service.url(), { clients: 3, pauseMs: 10 }),
      };
    }));
    try {
      await lab.plane.endIstiod();
      for (const { scene, service, late } of parts) {
        await late.start();
        const rules = [{ to: [{ operation: { paths: ["/meanwhile"] } }] }];
        await scene.apply(servicePolicy("meanwhile", service, { action: "DENY", rules }));
      }
      await pause(2_000);
      for (const { scene, late } of parts) {
        await eventually(async () => {
          const { status, body } = await late.probe(15021, "/healthz/ready");
          assert.equal(status, 503);
          assert.notEqual(body, "");
        }, 15_000);
        const { waypoint } = await scene.stage();
        assert.equal(
          (await waypoint.replica.probe(15021, "/healthz/ready")).status,
          200,
          "readiness must not depend on istiod",
        );
      }
    } finally {
      await lab.plane.startIstiod();
    }
    for (const { late, client, service, load } of parts) {
      await late.ready();
      await eventually(
        async () => assert.equal((await client.app.http(service.url("http", "/meanwhile"))).status, 403),
        60_000,
      );
      const { failed, failures, sent } = await load.stop();
      assert.equal(failed, 0, failures.join("\n"));
      assert.ok(sent > 100);
    }
    await Promise.all(scenes.map((scene) => scene.strike()));
  },
);
