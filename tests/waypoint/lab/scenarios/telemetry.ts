/** A Telemetry resource and the mesh's providers, as istiod turns them into configuration: logs, metrics and spans of one request (reference waypoint 6). */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../../../e2e/support/peer.ts";
import { eventually } from "../../../e2e/support/wait.ts";
import { peerAuthentication } from "../../../istiod/support/objects.ts";
import { scenario } from "../support/scenario.ts";
import type { Scene } from "../support/scene.ts";

const WAIT_MS = 30_000;
const COLLECTOR_PORT = 9411;

interface Span {
  readonly traceId: string;
  readonly kind: string;
  readonly name: string;
  readonly localEndpoint: { readonly serviceName: string };
  readonly tags: Readonly<Record<string, string>>;
}

/** istiod reads its file again when it changes. */
function addProviders({ lab }: Scene, ...providers: readonly { readonly name: string }[]): void {
  const file = join(lab.directory, "istiod/mesh.yaml");
  const mesh = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(
    file,
    JSON.stringify({ ...mesh, extensionProviders: [...mesh.extensionProviders ?? [], ...providers] }),
  );
}

/** Sum over all series. */
function counted(metrics: string, name: string): number {
  return metrics.split("\n").filter((line) => line.startsWith(`${name}{`))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** Takes requests one after the other and says what they held. */
async function collect(peer: Peer, into: (body: string) => void): Promise<void> {
  for (;;) {
    let head = "";
    while (!head.includes("\r\n\r\n")) {
      const byte = await peer.read(1, 10 * WAIT_MS).catch(() => "");
      if (byte === "") return;
      head += byte;
    }
    into(await peer.read(Number(/content-length: (\d+)/i.exec(head)![1])));
    peer.write("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
  }
}

scenario(
  "Telemetry: a request is logged, counted with labels of its own, and its span reaches a collector of the mesh",
  async (scene) => {
    const { lab } = scene;
    const { namespace, client, alpha } = await scene.stage();
    const name = scene.name("observed");
    const waypoint = await scene.addWaypoint({ name, namespace });
    const service = await scene.addService("watched", { pods: [alpha], waypoint: name });
    const [pod] = await lab.addPods({ name: scene.name("collector"), namespace, node: scene.b });
    const spans: Span[] = [];
    pod!.listen(COLLECTOR_PORT, (peer) => void collect(peer, (body) => spans.push(...JSON.parse(body))));
    const collector = await scene.addService("collector", {
      pods: [{ pod: pod!, app: client.app }],
      ports: [{ name: "http-zipkin", port: COLLECTOR_PORT, target: COLLECTOR_PORT }],
      waypoint: undefined,
    });
    const [spansTo, linesTo] = [`spans-${namespace}`, `lines-${namespace}`];
    const labels = {
      code: "%RESPONSE_CODE%",
      path: "%REQ(:PATH)%",
      trace: "%TRACE_ID%",
      from: "%DOWNSTREAM_PEER_URI_SAN%",
    };
    addProviders(
      scene,
      { name: spansTo, zipkin: { service: collector.hostname, port: COLLECTOR_PORT } } as never,
      { name: linesTo, envoyFileAccessLog: { path: "/dev/stdout", logFormat: { labels } } } as never,
    );
    await scene.apply(
      // Nobody reaches the collector but by a tunnel, with an identity.
      peerAuthentication(namespace, scene.name("strict"), {
        selector: { matchLabels: { app: pod!.name } },
        mtls: { mode: "STRICT" },
      }),
      {
        apiVersion: "telemetry.istio.io/v1",
        kind: "Telemetry",
        metadata: { name: scene.name("watch") },
        spec: {
          targetRefs: [{ group: "gateway.networking.k8s.io", kind: "Gateway", name }],
          accessLogging: [{
            providers: [{ name: linesTo }],
            filter: { expression: "request.url_path != '/quiet'" },
          }],
          tracing: [{
            providers: [{ name: spansTo }],
            randomSamplingPercentage: 100,
            customTags: { tenant: { header: { name: "x-tenant", defaultValue: "none" } } },
          }],
          metrics: [{
            providers: [{ name: "prometheus" }],
            overrides: [
              {
                match: { metric: "REQUEST_COUNT", mode: "SERVER" },
                tagOverrides: { path: { value: "request.url_path" } },
              },
              { match: { metric: "REQUEST_SIZE", mode: "SERVER" }, disabled: true },
            ],
          }],
        },
      },
    );
    const lines = () =>
      waypoint.replica.container.log.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    const ask = (path: string) => client.app.echo(service.url("http", path), { headers: { "x-tenant": "acme" } });
    // Until all of it is in force.
    await eventually(async () => {
      await ask("/first");
      assert.ok(lines().length > 0, "no line yet");
      assert.ok(spans.length > 0, "no span yet");
    }, WAIT_MS);
    const sizesBefore = counted(
      (await waypoint.replica.probe(15020, "/stats/prometheus")).body,
      "istio_request_bytes_count",
    );
    await ask("/quiet");
    const { headers } = await ask("/loud");
    const traceId = Object.fromEntries(Object.entries(headers))["x-b3-traceid"];
    const loud = await eventually(() => Promise.resolve(lines().find(({ path }) => path === "/loud")!), WAIT_MS);
    assert.deepEqual(loud, { code: 200, path: "/loud", trace: String(traceId), from: client.pod.identity });
    const span = await eventually(async () => {
      const found = spans.find((each) => each.traceId === loud.trace);
      assert.ok(found, "the span of /loud");
      return await Promise.resolve(found);
    }, WAIT_MS);
    assert.equal(span.kind, "SERVER");
    assert.equal(span.tags["tenant"], "acme");
    assert.equal(span.tags["istio.source_workload"], "client");
    assert.equal(span.tags["istio.destination_workload"], "alpha");
    assert.ok(span.localEndpoint.serviceName.endsWith(`.${namespace}`), span.localEndpoint.serviceName);
    assert.ok(!lines().some(({ path }) => path === "/quiet"));
    const metrics = (await waypoint.replica.probe(15020, "/stats/prometheus")).body;
    assert.match(metrics, /^istio_requests_total\{.*path="\/loud"\} 1$/m);
    assert.match(metrics, /^istio_response_bytes_count\{/m);
    // Counted only before the resource was in force.
    assert.equal(counted(metrics, "istio_request_bytes_count"), sizesBefore);
  },
);
