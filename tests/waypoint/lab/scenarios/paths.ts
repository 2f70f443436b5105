/**
 * The ways of a request: from outside through an enrolled reverse proxy, from pod to pod, and the one that leads past the waypoint (to the outside:
 * egress.ts). Each hop is asserted by who saw whom: applications by the peer's address, ztunnels by their access logs.
 */
import assert from "node:assert/strict";
import { eventually } from "../../../e2e/support/wait.ts";
import { PORTS } from "../apps/protocol.ts";
import { AppProcess } from "../support/app_process.ts";
import { httpRoute, servicePolicy } from "../support/objects.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import type { AppPod } from "../support/stage.ts";

/** Every answer through the waypoint then says so. */
function marking(name: string, service: LabService) {
  const set = [{ name: "x-through", value: "waypoint" }];
  const rule = {
    filters: [{ type: "ResponseHeaderModifier", responseHeaderModifier: { set } }],
    backendRefs: [{ name: service.name, port: 80 }],
  };
  return httpRoute(name, service, [rule], 80);
}

scenario(
  "pod to pod: client, its ztunnel, the waypoint, the server's ztunnel, the server; each knows who is before it",
  async (scene) => {
    const { a, b } = scene;
    const { client, alpha, plain, waypoint } = await scene.stage();
    const service = await scene.addService("path", { pods: [alpha] });
    await scene.apply(marking(scene.name("path"), service));
    await eventually(async () => {
      assert.equal((await client.app.echo(service.url())).answer.headers["x-through"], "waypoint");
    }, 15_000);
    const marks = [a.ztunnel.mark, b.ztunnel.mark] as const;
    const echo = await client.app.echo(service.url("http", "/who?am=i"), { headers: { "x-one": "1" } });
    assert.equal(echo.path, "/who?am=i");
    assert.equal(echo.headers["x-one"], "1");
    assert.ok(echo.peer.startsWith(`${waypoint.replica.pod.ip()}:`), echo.peer);
    const out = await a.ztunnel.access(({ fields }) => fields["src.workload"] === client.pod.name, marks[0]);
    assert.equal(out.fields["dst.addr"], `${waypoint.replica.pod.ip()}:15008`);
    assert.equal(out.fields["dst.hbone_addr"], service.address());
    assert.equal(out.fields["dst.identity"], waypoint.replica.pod.identity);
    // One tunnel to the server carries many requests: its line comes when it ends, its counters at once.
    const opened = {
      reporter: "destination",
      source_principal: waypoint.replica.pod.identity,
      destination_workload: "alpha",
    };
    assert.ok((await b.traffic(opened)).opened > 0);
    // The same service on a pod that has no tunnel.
    await service.setPods(plain.pod);
    await eventually(async () => assert.equal((await client.app.echo(service.url())).app, "plain"), 15_000);
    const direct = await client.app.echo(service.url());
    assert.ok(direct.peer.startsWith(`${waypoint.replica.pod.ip()}:`), direct.peer);
  },
);

/** A reverse proxy in an enrolled pod whose inbound traffic is not captured, in front of some services. */
async function addIngress(scene: Scene, routes: Readonly<Record<string, LabService>>): Promise<AppPod> {
  const { namespace } = await scene.stage();
  const [pod] = await scene.lab.addPods({
    name: scene.name("ingress"),
    namespace,
    node: scene.b,
    annotations: { "ambient.istio.io/bypass-inbound-capture": "true" },
    redirection: { ingress: true },
  });
  const args = Object.entries(routes).map(([prefix, service]) => `${prefix}=${service.address()}`);
  return { pod: pod!, app: await AppProcess.start(pod!, { program: "ingress.ts", args }) };
}

scenario(
  "outside to pod: a plain client, an enrolled reverse proxy, its ztunnel, the waypoint, and pods with and without a tunnel",
  async (scene) => {
    const { alpha, plain, waypoint, namespace } = await scene.stage();
    const labels = { "istio.io/ingress-use-waypoint": "true" };
    const behind = await scene.addService("behind", { pods: [alpha], labels });
    const bare = await scene.addService("bare", { pods: [plain], labels });
    await scene.apply(marking(scene.name("behind"), behind), marking(scene.name("bare"), bare));
    const [outside] = await scene.addApps({ name: scene.name("outside"), node: scene.a, captured: false });
    const ingress = await addIngress(scene, { "/behind": behind, "/bare": bare });
    const url = `http://${ingress.pod.ip()}`;
    const through = async (path: string, app: string) => {
      const echo = await outside!.app.echo(`${url}${path}`, { headers: { host: "shop.example" } });
      assert.equal(echo.app, app);
      assert.equal(echo.answer.headers["x-through"], "waypoint");
      return echo;
    };
    for (const [prefix, app] of [["/behind", "alpha"], ["/bare", "plain"]] as const) {
      const echo = await eventually(() => through(`${prefix}/deep?x=1`, app), 20_000);
      assert.equal(echo.path, "/deep?x=1");
      assert.equal(echo.headers["host"], "shop.example");
      assert.equal(echo.headers["x-forwarded-for"], outside!.pod.ip());
      assert.ok(echo.peer.startsWith(`${waypoint.replica.pod.ip()}:`), echo.peer);
      const large = await outside!.app.http(`${url}${prefix}/large?bytes=3000000`);
      assert.equal(large.bytes, 3_000_000);
      const upload = await outside!.app.echo(`${url}${prefix}/up`, { body: 2_000_000 });
      assert.equal(upload.bytes, 2_000_000);
      const socket = await outside!.app.webSocket(`ws://${ingress.pod.ip()}${prefix}/socket`);
      assert.equal(await socket.talk("hello"), `${app}: hello`);
      await socket.end();
    }
    // The waypoint knows the reverse proxy by its identity, which nobody else has.
    const principals = [`cluster.local/ns/${namespace}/sa/${ingress.pod.serviceAccount}`];
    await scene.apply(
      servicePolicy(scene.name("only-ingress"), behind, {
        action: "ALLOW",
        rules: [{ from: [{ source: { principals } }] }],
      }),
    );
    const { client } = await scene.stage();
    await eventually(async () => assert.equal((await client.app.http(behind.url())).status, 403), 15_000);
    await through("/behind/again", "alpha");
    await ingress.app.kill();
    await scene.lab.removePods(ingress.pod);
  },
);

scenario(
  "past the waypoint: a plain client that calls a captured pod is served by the pod's ztunnel, as upstream; its own policy stops it",
  async (scene) => {
    const { b } = scene;
    const { alpha, namespace } = await scene.stage();
    const service = await scene.addService("bypass", { pods: [alpha] });
    const all = servicePolicy(scene.name("nobody"), service, { action: "DENY", rules: [{}] });
    await scene.apply(marking(scene.name("bypass"), service), all);
    const [outside] = await scene.addApps({ name: scene.name("plain-client"), node: scene.a, captured: false });
    const { client } = await scene.stage();
    await eventually(async () => assert.equal((await client.app.http(service.url())).status, 403), 15_000);
    const mark = b.ztunnel.mark;
    const echo = await outside!.app.echo(`http://${alpha.pod.ip()}:${PORTS.http}/`);
    assert.equal(echo.answer.headers["x-through"], undefined);
    assert.ok(echo.peer.startsWith(`${outside!.pod.ip()}:`), echo.peer);
    const { fields } = await b.ztunnel.access(
      ({ fields }) => fields["src.addr"]!.startsWith(`${outside!.pod.ip()}:`),
      mark,
    );
    assert.equal(fields["src.identity"], undefined);
    // Who wants no way past it says so to ztunnel: only the waypoint may come.
    const principals = [`cluster.local/ns/${namespace}/sa/waypoint`];
    const selector = { matchLabels: { app: "alpha" } };
    const only = { action: "ALLOW", selector, rules: [{ from: [{ source: { principals } }] }] };
    const object = {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: scene.name("only-waypoint"), namespace },
      spec: only,
    };
    await scene.delete(all);
    await scene.apply(object);
    await eventually(() => assert.rejects(outside!.app.echo(`http://${alpha.pod.ip()}:${PORTS.http}/`)), 15_000);
    await eventually(async () => assert.equal((await client.app.echo(service.url())).app, "alpha"), 15_000);
    await scene.delete(object);
    await eventually(() => outside!.app.echo(`http://${alpha.pod.ip()}:${PORTS.http}/`), 15_000);
  },
);
