/**
 * Memory of many open idle tunnelled connections: growth of each proxy's RSS per connection, and what is left of it
 * after they closed. Measured on proxies that have seen load, so that the growth is the connections' alone.
 */
import { residentKib } from "./proc.ts";
import type { Target } from "./targets.ts";

/** Issue limit for ambit, per connection and proxy. */
export const MAX_GROWTH_BYTES = 8 * 1024;
/** At least this share of the growth is given back after the connections closed. */
export const MIN_GIVEN_BACK = 0.5;

/** A proxy that gives memory back does it within this many seconds of the last change. */
const SETTLE_SECONDS = 10;

export interface IdleHop {
  readonly target: string;
  /** 1 has the client's side of each tunnel, 2 the server's. */
  readonly hop: number;
  readonly freshMb: number;
  readonly beforeMb: number;
  readonly openMb: number;
  readonly afterMb: number;
  readonly growthBytesPerConnection: number;
  /** Share of the growth that was given back. */
  readonly givenBack: number;
}

const KIB = 1024;

export async function measureIdleTunnels(target: Target, connections: number): Promise<IdleHop[]> {
  const fresh = target.pids.map(residentKib);
  await target.measure("keepalive", { connections: 64, seconds: 3, warmup: 0 });
  await target.measure("newconn", { connections: 16, seconds: 3, warmup: 0 });
  const figures = await target.measure("idle", { connections, settle: SETTLE_SECONDS });
  return target.pids.map((_, i) => {
    const [before, open, after] = [figures.rssBeforeKib![i], figures.rssOpenKib![i], figures.rssAfterKib![i]];
    return {
      target: target.name,
      hop: i + 1,
      freshMb: fresh[i] * KIB / 1e6,
      beforeMb: before * KIB / 1e6,
      openMb: open * KIB / 1e6,
      afterMb: after * KIB / 1e6,
      growthBytesPerConnection: (open - before) * KIB / connections,
      givenBack: open > before ? (open - after) / (open - before) : 1,
    };
  });
}

export function idleTable(hops: readonly IdleHop[]): string {
  const lines = [
    "| pair | hop | fresh MB | before MB | open MB | after close MB | growth per connection, bytes | given back |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
  ];
  for (const h of hops) {
    const mb = [h.freshMb, h.beforeMb, h.openMb, h.afterMb].map((value) => value.toFixed(1));
    const cells = [
      h.target,
      h.hop,
      ...mb,
      h.growthBytesPerConnection.toFixed(0),
      `${(h.givenBack * 100).toFixed(0)} %`,
    ];
    lines.push(`| ${cells.join(" | ")} |`);
  }
  return lines.join("\n") + "\n";
}

/** The limits hold for every hop of ambit. */
export function idleHolds(hops: readonly IdleHop[]): boolean {
  return hops.every((hop) =>
    hop.target === "envoy" ||
    (hop.growthBytesPerConnection <= MAX_GROWTH_BYTES && hop.givenBack >= MIN_GIVEN_BACK)
  );
}
