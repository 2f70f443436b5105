/** Tools in network namespaces: which takes root. */
import assert from "node:assert/strict";
import { readdirSync, readlinkSync } from "node:fs";
import { test } from "node:test";
import { createNetnsRunner } from "../../../src/cni/redirection/mod.ts";
import { ToolMissing } from "../../../src/cni/redirection/run_in_netns.ts";
import { withNetns } from "./support.ts";

const OWN = "/proc/self/ns/net";
const run = createNetnsRunner();

function namespacesOfThreads(): ReadonlySet<string> {
  return new Set(
    readdirSync("/proc/self/task").map((task) => {
      try {
        return readlinkSync(`/proc/self/task/${task}/ns/net`);
      } catch {
        return readlinkSync(OWN); // a thread that has ended meanwhile
      }
    }),
  );
}

test("netns runner: every tool is in its namespace, many at once too, and no thread of this process stays there", async () => {
  const home = readlinkSync(OWN);
  await withNetns(async (one) => {
    await withNetns(async (other) => {
      assert.notEqual(readlinkSync(one), readlinkSync(other));
      await Promise.all(Array.from({ length: 60 }, async (_, index) => {
        const netns = [one, other, OWN][index % 3]!;
        const { code, stdout } = await run(netns, ["readlink", "/proc/self/ns/net"], "");
        assert.equal(code, 0);
        assert.equal(stdout.trim(), netns === OWN ? home : readlinkSync(netns));
        assert.deepEqual([...namespacesOfThreads()], [home]);
      }));
    });
  });
});

test("netns runner: passes input, environment, both outputs and the exit code", async () => {
  const script = 'cat; echo "$NAME" >&2; exit 7';
  const { code, stdout, stderr } = await run(OWN, ["sh", "-c", script], "input\n", { NAME: "value" });
  assert.deepEqual({ code, stdout, stderr }, { code: 7, stdout: "input\n", stderr: "value\n" });
  assert.equal((await run(OWN, ["sh", "-c", "echo $PATH"], "", { NAME: "value" })).stdout.trim(), process.env.PATH);
});

test("netns runner: a tool that is missing is an error that names it and its package", async () => {
  const missing = (error: unknown) =>
    error instanceof ToolMissing && /iptables-none.*package iptables/.test(error.message);
  await assert.rejects(run(OWN, ["iptables-none"], ""), missing);
  await assert.rejects(createNetnsRunner()(OWN, ["iptables-none"], ""), missing);
  assert.deepEqual([...namespacesOfThreads()], [readlinkSync(OWN)]);
});

test("netns runner: a namespace that is not there, or is none, is an error that names it", async () => {
  await assert.rejects(
    run("/proc/none/ns/net", ["true"], ""),
    /cannot open the network namespace \/proc\/none\/ns\/net: no such file/,
  );
  await assert.rejects(
    run("/proc/self/status", ["true"], ""),
    /cannot enter the network namespace \/proc\/self\/status: invalid argument/,
  );
  assert.equal((await run(OWN, ["true"], "")).code, 0);
});

test("netns runner: keeps no descriptor open", async () => {
  const open = () => readdirSync("/proc/self/fd").length;
  await withNetns(async (netns) => {
    await run(netns, ["true"], "");
    const before = open();
    for (let i = 0; i < 60; i++) await run(netns, ["true"], "");
    // A runtime closes pipes of children that have ended when it finds the time.
    assert.ok(open() <= before + 30, `${open()} descriptors, ${before} before`);
  });
});
