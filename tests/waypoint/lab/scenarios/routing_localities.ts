/** Localities (reference waypoint 4.6): the waypoint and beta are in one region, alpha is in another. */
import { istioObject } from "../support/objects.ts";
import { countApps, expectRows, type Row } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";

scenario("routing: DestinationRule, localities: near first, failover, and shares by region", async (scene) => {
  const { client, alpha, beta } = await scene.stage();
  const pods = [alpha, beta];
  const [near, far, shared] = [
    await scene.addService("near", { pods }),
    await scene.addService("far", { pods: [alpha] }),
    await scene.addService("shared", { pods }),
  ];
  const rule = (service: LabService, localityLbSetting: unknown) =>
    istioObject("DestinationRule", service.namespace, service.name, {
      host: service.hostname,
      trafficPolicy: {
        loadBalancer: { simple: "ROUND_ROBIN", localityLbSetting },
        outlierDetection: { consecutive5xxErrors: 5 },
      },
    });
  await scene.apply(
    rule(near, { enabled: true }),
    rule(far, { enabled: true }),
    rule(shared, { enabled: true, distribute: [{ from: "region-a/*", to: { "region-a/*": 20, "region-b/*": 80 } }] }),
  );
  const row = (name: string, service: LabService, holds: (alpha: number, beta: number) => boolean): Row => ({
    name,
    async check() {
      const counts = await countApps(
        80,
        async () => (await client.app.http(service.url(), { timeoutMs: 10_000 })).headers["x-app"]!,
      );
      const { alpha = 0, beta = 0 } = counts;
      if (alpha + beta !== 80 || !holds(alpha, beta)) throw new Error(JSON.stringify(counts));
    },
  });
  await expectRows([
    row("the own region alone", near, (alpha) => alpha === 0),
    row("another region where there is no other", far, (_, beta) => beta === 0),
    row("by shares", shared, (alpha, beta) => alpha > 48 && beta > 3),
  ], 60_000);
}, { sideBySide: true });
