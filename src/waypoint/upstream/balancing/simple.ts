/** Round robin, least request and random choice, weighted where hosts are not alike, with slow start for those that are new. */
import type { Host } from "../host.ts";
import type { SlowStartSpec } from "../../spec/mod.ts";
import { EdfSchedule } from "./edf.ts";
import { NOBODY, type Picker } from "./picker.ts";

export type Random = () => number;

export function randomPicker(hosts: readonly Host[], random: Random): Picker {
  if (hosts.length === 0) return NOBODY;
  return { pick: () => hosts[Math.floor(random() * hosts.length)] };
}

export interface PaceContext {
  readonly random: Random;
  nowMs(): number;
}

export function roundRobin(hosts: readonly Host[], slowStart: SlowStartSpec | undefined, context: PaceContext): Picker {
  if (hosts.length === 0) return NOBODY;
  if (areAlike(hosts, slowStart, context.nowMs())) {
    let next = Math.floor(context.random() * hosts.length);
    return {
      pick: () => {
        const host = hosts[next];
        next = next + 1 === hosts.length ? 0 : next + 1;
        return host;
      },
    };
  }
  const pace = slowStartFactor(slowStart, context);
  const schedule = new EdfSchedule(hosts, (host) => host.weight * pace(host), context.random);
  return { pick: () => schedule.next() };
}

export function leastRequest(
  hosts: readonly Host[],
  choices: number,
  slowStart: SlowStartSpec | undefined,
  context: PaceContext,
): Picker {
  if (hosts.length === 0) return NOBODY;
  const { random } = context;
  if (hosts.length === 1) return { pick: () => hosts[0] };
  if (areAlike(hosts, slowStart, context.nowMs())) {
    return {
      pick: () => {
        let best = hosts[Math.floor(random() * hosts.length)];
        for (let i = 1; i < choices; i++) {
          const other = hosts[Math.floor(random() * hosts.length)];
          if (other.rqActive < best.rqActive) best = other;
        }
        return best;
      },
    };
  }
  const pace = slowStartFactor(slowStart, context);
  const weight = (host: Host): number => host.weight * pace(host) / (host.rqActive + 1);
  const schedule = new EdfSchedule(hosts, weight, random);
  return { pick: () => schedule.next() };
}

/** When the last of them has started slowly, and the choice may be made anew without; -Infinity: none is starting. */
export function slowStartEndsMs(hosts: readonly Host[], slowStart: SlowStartSpec | undefined, nowMs: number): number {
  let endsMs = -Infinity;
  if (slowStart === undefined || slowStart.windowMs <= 0) return endsMs;
  for (const host of hosts) {
    const endMs = host.addedAtMs + slowStart.windowMs;
    if (endMs > nowMs && endMs > endsMs) endsMs = endMs;
  }
  return endsMs;
}

function areAlike(hosts: readonly Host[], slowStart: SlowStartSpec | undefined, nowMs: number): boolean {
  const { weight } = hosts[0];
  return hosts.every((host) => host.weight === weight) && slowStartEndsMs(hosts, slowStart, nowMs) < nowMs;
}

/** The part of its weight that a host gets, by its age. Envoy's formula. */
function slowStartFactor(slowStart: SlowStartSpec | undefined, context: PaceContext): (host: Host) => number {
  if (slowStart === undefined || slowStart.windowMs <= 0) return () => 1;
  const { windowMs, aggression, minWeightPercent } = slowStart;
  // A weight of 0 would never come up again.
  const least = Math.max(minWeightPercent / 100, 1e-6);
  return (host) => {
    const ageMs = context.nowMs() - host.addedAtMs;
    if (ageMs >= windowMs) return 1;
    return Math.max(least, (Math.max(ageMs, 1) / windowMs) ** (1 / Math.max(aggression, 1e-3)));
  };
}
