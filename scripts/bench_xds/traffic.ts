/**
 * The client in its pod: one connection that is asked and answers all the time, and one new connection after the other, each to an
 * address that nobody has asked for before. `traffic.ts RUNNING_IP NEW_PREFIX PORT`; a line "report" on standard input prints
 * what happened since the last one as JSON.
 */
import { connect, type Socket } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Span } from "./waits.ts";

const [runningIp, newPrefix, portText] = process.argv.slice(2);
const port = Number(portText);
/** Between two questions, and between two new connections. */
const PAUSE_MS = 1;
const NEW_PAUSE_MS = 4;
const TIMEOUT_MS = 5_000;

/** Shorter ones are not told one by one. */
const LONG_MS = 2;

interface Kind {
  times: number[];
  long: Span[];
}

const none = (): Kind => ({ times: [], long: [] });
let running = none();
let fresh = none();
let failures = 0;
/** The first few of each report. */
let reasons: string[] = [];
const MAX_REASONS = 10;

const nowMs = () => performance.timeOrigin + performance.now();

function note(kind: Kind, beginMs: number): void {
  const endMs = nowMs();
  kind.times.push(endMs - beginMs);
  if (endMs - beginMs > LONG_MS) kind.long.push({ beginMs, endMs });
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function fail(which: string, error: unknown): void {
  failures++;
  if (reasons.length < MAX_REASONS) reasons.push(`${which}: ${error instanceof Error ? error.message : String(error)}`);
}

function open(ip: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: ip, port, noDelay: true });
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error("no answer")));
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed")));
  });
}

function ask(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const lost = () => reject(new Error("lost"));
    socket.once("close", lost);
    socket.once("data", () => {
      socket.off("close", lost);
      resolve();
    });
    socket.write("x");
  });
}

async function keepAsking(): Promise<void> {
  for (;;) {
    try {
      const socket = await open(runningIp);
      socket.on("error", () => {});
      await ask(socket);
      for (;;) {
        const beginMs = nowMs();
        await ask(socket);
        note(running, beginMs);
        await sleep(PAUSE_MS);
      }
    } catch (error) {
      fail("running", error);
      await sleep(100);
    }
  }
}

async function keepConnecting(): Promise<void> {
  for (let next = 1;; next = next % 65_000 + 1) {
    const beginMs = nowMs();
    try {
      const socket = await open(`${newPrefix}.${next >> 8}.${next & 255}`);
      socket.on("error", () => {});
      await ask(socket);
      note(fresh, beginMs);
      socket.destroy();
    } catch (error) {
      fail("first", error);
    }
    await sleep(NEW_PAUSE_MS);
  }
}

function summary({ times, long }: Kind): Record<string, unknown> {
  const sorted = times.sort((a, b) => a - b);
  const at = (share: number) => Number((sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(2));
  return {
    count: sorted.length,
    p50: at(0.5),
    p99: at(0.99),
    max: Number((sorted[sorted.length - 1] ?? 0).toFixed(2)),
    long,
  };
}

createInterface({ input: process.stdin }).on("line", () => {
  console.log(JSON.stringify({ running: summary(running), fresh: summary(fresh), failures, reasons }));
  running = none();
  fresh = none();
  reasons = [];
  failures = 0;
}).on("close", () => process.exit(0));
void keepAsking();
void keepConnecting();
