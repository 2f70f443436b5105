/** The course of the benchmark: starts and memory with one service, then rounds in which every subject takes every load. */
import { setTimeout as delay } from "node:timers/promises";
import { features, type ServiceName, SERVICES } from "./features.ts";
import { type Figures, measureHeld, measureLoad, residentMb } from "./measure.ts";
import type { BenchMesh, Protocol } from "./mesh.ts";
import { type Running, startSubject, type SubjectName } from "./subject.ts";

export interface RoundOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Only `plain` over HTTP/1.1, without the rest. */
  readonly plainOnly: boolean;
  readonly progress: (line: string) => void;
}

export interface Measurement extends Figures {
  readonly subject: SubjectName;
  readonly round: number;
  readonly load: string;
}

export type Sample = (subject: SubjectName, figure: string, value: number) => void;

const CONNECTIONS = 64;
const HELD_CONNECTIONS = 1000;
const HOLD_SECONDS = 8;
/** A proxy at rest has given back by then what its start took. */
const SETTLE_MS = 10_000;
const STARTS = 3;
/** A proxy that waited longer than that for its core was disturbed. */
export const DISTURBED = 0.1;
const IN_FORCE_MS = 30_000;

const LOADS: readonly (readonly [ServiceName, Protocol])[] = [
  ["plain", "http1"],
  ["plain", "http2"],
  ["full", "http1"],
  ["full", "http2"],
  ["five", "http1"],
  ["thousand", "http1"],
];

/** Two phases, because what lies on the other services would be part of the memory. */
export async function runRounds(
  mesh: BenchMesh,
  names: readonly SubjectName[],
  options: RoundOptions,
  record: (measurement: Measurement) => void,
  sample: Sample,
): Promise<void> {
  const { progress } = options;
  await mesh.addService("plain");
  const plainDump = await takeDump(mesh, "plain");
  for (let i = 0; i < STARTS; i++) {
    for (const name of names) {
      const subject = await startSubject(mesh, name, plainDump);
      sample(name, "ready", subject.readyMs);
      if (i === STARTS - 1) await measureMemory(mesh, subject, sample);
      await subject.stop();
    }
  }
  progress("starts and memory measured");
  const { objects, token } = features();
  if (!options.plainOnly) {
    for (const service of SERVICES) if (service !== "plain") await mesh.addService(service);
    await mesh.lab.apply(...objects);
  }
  const dump = await takeDump(mesh, options.plainOnly ? "plain" : "full");
  const loads = LOADS.filter(([service, protocol]) =>
    !options.plainOnly || (service === "plain" && protocol === "http1")
  );
  for (let round = 1; round <= options.rounds; round++) {
    for (let i = 0; i < names.length; i++) {
      // Another one begins each round: none is always measured after the same neighbour.
      const name = names[(i + round) % names.length]!;
      const subject = await startSubject(mesh, name, dump);
      await untilInForce(mesh, options.plainOnly ? "plain" : "full", token);
      const cpu: Record<string, number> = {};
      for (const [service, protocol] of loads) {
        const key = `${service}.${protocol}`;
        const figures = await measureLoad(mesh, subject, {
          service,
          protocol,
          connections: CONNECTIONS,
          seconds: options.seconds,
          token: service === "full" ? token : "",
        });
        record({ subject: name, round, load: key, ...figures });
        if (figures.waitShare > DISTURBED) {
          const percent = Math.round(figures.waitShare * 100);
          progress(`disturbed: ${name} waited ${percent} % of the time for its core (${key}, round ${round})`);
        }
        cpu[key] = figures.cpuUsPerRequest;
        sample(name, `${key}.cpu`, figures.cpuUsPerRequest);
        sample(name, `${key}.p99`, figures.p99Us / 1000);
        sample(name, `${key}.p50`, figures.p50Us / 1000);
        sample(name, `${key}.rate`, figures.requestsPerSecond);
      }
      if (!options.plainOnly) sample(name, "routes", cpu["thousand.http1"]! / cpu["five.http1"]!);
      sample(name, "rssLoaded", residentMb(subject));
      await subject.stop();
      progress(`round ${round} of ${options.rounds}: ${name}`);
    }
  }
}

async function measureMemory(mesh: BenchMesh, subject: Running, sample: Sample): Promise<void> {
  await untilInForce(mesh, "plain", "");
  await delay(SETTLE_MS);
  sample(subject.name, "rssIdle", residentMb(subject));
  const wish = { service: "plain", protocol: "http1", connections: HELD_CONNECTIONS, seconds: HOLD_SECONDS, token: "" };
  sample(subject.name, "rss1000", await measureHeld(mesh, subject, { ...wish, protocol: "http1" }));
}

/** What istiod has to say to a waypoint now, as ambit's admin page shows it. */
async function takeDump(mesh: BenchMesh, service: ServiceName): Promise<string> {
  const subject = await startSubject(mesh, "ambit-deno", "");
  try {
    // istiod gathers changes for a while before it pushes them.
    await delay(3000);
    const dump = mesh.admin("/config_dump?include_eds");
    if (!dump.includes(`inbound-vip|80|http|${service}.`)) {
      throw new Error(`istiod has not sent the service ${service}`);
    }
    return dump;
  } finally {
    await subject.stop();
  }
}

/** What lies on the service works: it answers, and where a policy lies on it, refuses the request that has no token. */
async function untilInForce(mesh: BenchMesh, service: ServiceName, token: string): Promise<void> {
  const deadline = performance.now() + IN_FORCE_MS;
  for (;;) {
    const given = ["http1", "http2"].map((protocol) =>
      mesh.status(service, protocol as Protocol, token === "" ? [] : [`Authorization: Bearer ${token}`])
    );
    const without = service === "full" ? mesh.status(service, "http1") : "403";
    const seen = [...given, without].join(" ");
    if (seen === "200 200 403") return;
    if (performance.now() > deadline) throw new Error(`${service} answers ${seen} in the place of 200 200 403`);
    await delay(100);
  }
}
