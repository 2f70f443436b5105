/**
 * Rules are replaced under a flood of packets, and by processes that are killed in the middle of it: nothing passes unredirected
 * (reference cni.md 4.4; tests/cni/redirection has the same with few packets).
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { test as register } from "node:test";
import { fileURLToPath } from "node:url";
import { tool } from "../../../scripts/support/tools.ts";
import { DEFAULT_REDIRECTION, type RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { NOTHING, provePassing, sendDuring, withPair } from "../redirection/packets.ts";
import { BACKENDS, redirectionBy } from "../redirection/support.ts";

const SETTINGS: RedirectionSettings = { ...DEFAULT_REDIRECTION, dnsCapture: true };
const OTHERS: RedirectionSettings = { ...SETTINGS, virtualInterfaces: ["tap0"] };
const REPLACEMENTS = 50;
const KILLS = 12;
const PROGRAM = fileURLToPath(new URL("../redirection/apply_forever.ts", import.meta.url));
const RUNTIMES: Readonly<Record<string, readonly string[]>> = {
  deno: [tool("deno"), "run", "--quiet", "--no-check", "-A", PROGRAM],
  bun: [tool("bun"), PROGRAM],
};

/** As for the scenarios of the lab: parts of names, comma-separated; empty: all. */
const only = (process.env.AMBIT_CNI_ONLY ?? "").split(",").filter((text) => text !== "");

function test(name: string, body: () => Promise<void>): void {
  if (only.length === 0 || only.some((text) => name.includes(text))) register(name, body);
}

test("cni: redirection: nothing passes while rules are replaced 50 times under a flood of packets", async () => {
  await withPair(async (pair) => {
    await provePassing(pair);
    await redirectionBy("nftables").apply(pair.netns, SETTINGS);
    await pair.passed();
    for (let round = 0; round < REPLACEMENTS; round++) {
      const backend = BACKENDS[[0, 0, 1, 1, 2, 2, 0, 2, 1][round % 9]!]!;
      const work = redirectionBy(backend).apply(pair.netns, round % 2 === 0 ? OTHERS : SETTINGS);
      await sendDuring(pair, work, "all");
      assert.deepEqual(await pair.passed(), NOTHING, `replacement ${round} by ${backend}`);
    }
  });
});

for (const [runtime, command] of Object.entries(RUNTIMES)) {
  test(`cni: redirection, ${runtime}: nothing passes when the process that replaces rules is killed at any moment`, async () => {
    await withPair(async (pair) => {
      await provePassing(pair);
      await redirectionBy("nftables").apply(pair.netns, SETTINGS);
      await pair.passed();
      for (let round = 0; round < KILLS; round++) {
        // The path is this process's: the other one opens it as its own file would be.
        const [file = "", ...args] = [...command, pair.netns];
        const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"], env: process.env });
        const gone = once(child, "exit");
        await Promise.race([once(child.stdout, "data"), gone]);
        const moment = new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
        await sendDuring(pair, moment);
        child.kill("SIGKILL");
        await gone;
        for (let i = 0; i < 10; i++) pair.send();
        assert.deepEqual(await pair.passed(), NOTHING, `kill ${round}`);
      }
      const redirection = redirectionBy(BACKENDS[KILLS % BACKENDS.length]!);
      await sendDuring(pair, redirection.apply(pair.netns, SETTINGS));
      assert.deepEqual(await pair.passed(), NOTHING);
      assert.deepEqual(await redirection.verify(pair.netns, SETTINGS), []);
    });
  });
}
