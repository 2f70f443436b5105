/** Servers and clients that are not there, or go away: what is passed over, what is told, and what the others notice of it, which is nothing. */
import assert from "node:assert/strict";
import { tool } from "../../../../src/local/run_tool.ts";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import { backend, httpRoute } from "../support/objects.ts";
import { serveRaw } from "../support/raw_server.ts";
import { scenario } from "../support/scenario.ts";
import { FAULT_PORT, OK, RESET, TIMEOUT } from "./faults.ts";

scenario(
  "retries: a server that cannot be reached is passed over for another; one that answered is not asked again",
  async (scene) => {
    const { client, alpha, beta } = await scene.stage();
    const ports = [{ name: "http", port: 80, target: FAULT_PORT }];
    const service = await scene.addService("retried", { pods: [alpha, beta], ports });
    const good = serveRaw(beta.pod, FAULT_PORT, (peer) => peer.write(`${OK}Content-Length: 4\r\n\r\nbeta`));
    await eventually(async () => assert.equal((await client.app.http(service.url())).status, 200), 15_000);
    for (let i = 0; i < 20; i++) {
      const { status, body } = await client.app.http(service.url(), { body: "something" });
      assert.deepEqual([status, body], [200, "beta"]);
    }
    // A 503 of the application is the application's word, for Istio's default policy too.
    const answered = await scene.addService("answered", { pods: [alpha] });
    await eventually(() => client.app.echo(answered.url()), 15_000);
    const key = `k${scene.number}`;
    assert.equal((await client.app.http(answered.url("http", `/?fail=1&key=${key}&status=500`))).status, 500);
    assert.equal((await client.app.http(answered.url("http", `/?fail=1&key=${key}&status=500`))).status, 200);
    good.close();
  },
);

scenario(
  "nobody there: no endpoints, no such service port, a pod that is gone, a ztunnel that refuses",
  async (scene) => {
    const { client, alpha, namespace } = await scene.stage();
    const empty = await scene.addService("empty", { pods: [] });
    await eventually(async () => {
      const { status, body } = await client.app.http(empty.url(), { timeoutMs: 5_000 });
      assert.deepEqual([status, body], [503, "no healthy upstream"]);
    }, 15_000);
    await assert.rejects(client.app.http(`http://${empty.vip}:4321/`, { timeoutMs: 3_000 }));
    const missing = await scene.addService("missing", { pods: [alpha] });
    await scene.apply(httpRoute(missing.name, missing, [{ backendRefs: [{ name: "there-is-none", port: 80 }] }], 80));
    await eventually(
      async () => assert.equal((await client.app.http(missing.url(), { timeoutMs: 5_000 })).status, 500),
      15_000,
    );
    // ztunnel of the server admits nobody.
    const shut = await scene.addService("shut", { pods: [alpha] });
    await eventually(() => client.app.echo(shut.url()), 15_000);
    const policy = {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: scene.name("shut"), namespace },
      spec: {
        action: "DENY",
        selector: { matchLabels: { app: "alpha" } },
        rules: [{ to: [{ operation: { ports: ["8080"] } }] }],
      },
    };
    await scene.apply(policy);
    await eventually(async () => {
      const { status, body } = await client.app.http(shut.url(), { timeoutMs: 5_000 });
      assert.equal(status, 503);
      assert.match(body, RESET);
    }, 15_000);
    await scene.delete(policy);
    await eventually(() => client.app.echo(shut.url(), { timeoutMs: 5_000 }), 15_000);
  },
  { sideBySide: true },
);

scenario(
  "a pod that is gone without a word: requests to it end in time, and the ones after it is known are served",
  async (scene) => {
    const { client, alpha } = await scene.stage();
    const [leaver] = await scene.addApps({ name: scene.name("leaver"), node: scene.b });
    const service = await scene.addService("leaving", { pods: [leaver!] });
    await scene.apply(
      httpRoute(service.name, service, [{ timeouts: { request: TIMEOUT }, backendRefs: [backend(service, 81)] }], 81),
    );
    await eventually(() => client.app.echo(service.url()), 15_000);
    await pause(1_000);
    // Its wire is cut; nobody tells anybody.
    const { pod } = leaver!;
    const place = { pod: pod.name, namespace: pod.namespace };
    await tool(scene.lab.sandbox.command(["ip", "link", "set", "eth0", "down"], place));
    // The tunnel to it must be found dead: pings every 10 s, with 20 s for the answer.
    const unlimited = client.app.http(service.url(), { timeoutMs: 50_000 });
    const limited = await client.app.http(service.url("http2-api"), { timeoutMs: 10_000 });
    assert.deepEqual([limited.status, limited.body], [504, "upstream request timeout"]);
    const { status, body, ms } = await unlimited;
    assert.equal(status, 503, body);
    assert.match(body, RESET);
    assert.ok(ms < 45_000, `${ms} ms`);
    await service.setPods(alpha.pod);
    await eventually(
      async () => assert.equal((await client.app.echo(service.url(), { timeoutMs: 5_000 })).app, "alpha"),
      15_000,
    );
  },
  { sideBySide: true },
);

scenario(
  "clients that misbehave: gone in the middle, resets, half a head, garbage; the others do not notice",
  async (scene) => {
    const { client, alpha } = await scene.stage();
    const service = await scene.addService("patient", { pods: [alpha] });
    await eventually(() => client.app.echo(service.url()), 15_000);
    const load = await client.app.load(service.url(), { clients: 4, pauseMs: 5 });
    const connect = () => client.pod.connect(service.vip, 80);
    for (let i = 0; i < 15; i++) {
      const upload = await connect();
      upload.write("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly this");
      const download = await connect();
      download.write("GET /?bytes=5000000 HTTP/1.1\r\nHost: a\r\n\r\n");
      await download.read(100);
      const slow = await connect();
      slow.write("GET /?delay=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
      const half = await connect();
      half.write("GET / HT");
      const garbage = await connect();
      garbage.write("\x00\x01\x02\x03\r\n\r\n");
      assert.match((await garbage.readToEnd()).text, /^HTTP\/1\.1 400 |^$/);
      for (const peer of [upload, download, slow, half]) {
        if (i % 2 === 0) peer.abort();
        else peer.close();
      }
      garbage.close();
    }
    await pause(1_500);
    const { failed, failures, sent } = await load.stop();
    assert.equal(failed, 0, failures.join("\n"));
    assert.ok(sent > 50);
  },
  { sideBySide: true },
);
