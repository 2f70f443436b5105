import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type ProcessSpec, supervise, type SupervisedProcess } from "../../src/local/supervisor.ts";

/** A process in this test's own network namespace, with what it said and how it ended. */
function start(command: readonly string[], options: Partial<ProcessSpec> = {}) {
  const lines: string[] = [];
  const exits: [string, number | undefined][] = [];
  let wake = () => {};
  const changed = () => wake();
  const process: SupervisedProcess = supervise({
    netns: "/proc/self/ns/net",
    command,
    env: {},
    restart: false,
    onLine: (line) => {
      lines.push(line);
      changed();
    },
    onExit: (how, restartInMs) => {
      exits.push([how, restartInMs]);
      changed();
    },
    ...options,
  });
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise<void>((resolve) => wake = resolve);
  };
  return { process, lines, exits, until };
}

test("supervisor: hands on every line of both outputs, and how the process ended", async () => {
  const { process, lines, exits, until } = start(["sh", "-c", "echo out; echo err >&2; exit 3"]);
  await process.ended;
  await until(() => lines.length === 2);
  assert.deepEqual(lines.sort(), ["err", "out"]);
  assert.deepEqual(exits, [["exit code 3", undefined]]);
});

test("supervisor: sets the environment it is given", async () => {
  const { lines, until } = start(["sh", "-c", "echo $WHO"], { env: { WHO: "reviews" } });
  await until(() => lines.length === 1);
  assert.deepEqual(lines, ["reviews"]);
});

test("supervisor: starts a process again, more patiently each time, until it is stopped", async () => {
  const { process, lines, exits, until } = start(["sh", "-c", "echo up; kill -9 $$"], { restart: true });
  await until(() => exits.length === 3);
  await process.stop(1000);
  await process.ended;
  assert.deepEqual(exits.map(([how]) => how), ["killed by SIGKILL", "killed by SIGKILL", "killed by SIGKILL"]);
  assert.deepEqual(exits.map(([, delay]) => delay), [100, 200, 400]);
  assert.equal(lines.length, 3);
});

test("supervisor: stop ends all that the process started, and it is not started again", async () => {
  const script = "sleep 1000 & echo $!; wait";
  const { process, lines, exits, until } = start(["sh", "-c", script], { restart: true });
  await until(() => lines.length === 1);
  await process.stop(5000);
  assert.deepEqual(exits, []);
  assert.ok(await isGone(Number(lines[0])));
});

test("supervisor: kills what does not want to end after the grace", async () => {
  const { process, lines, until } = start(["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"]);
  await until(() => lines.length === 1);
  await process.stop(50);
  assert.ok(await isGone(Number(lines[0])));
});

test("supervisor: a command that does not exist ends at once and says so", async () => {
  const { process, lines, exits, until } = start(["/no/such/program"]);
  await process.ended;
  await until(() => lines.length > 0);
  assert.match(lines.join(), /no\/such\/program/);
  assert.equal(exits.length, 1);
});

test("supervisor: a line without an end does not fill the memory", async () => {
  const { lines, until } = start(["sh", "-c", "head -c 3000000 /dev/zero; echo; echo after"]);
  await until(() => lines.includes("after"));
  assert.match(lines[0]!, /left out/);
});

/** A killed process stays in the table until its new parent has taken note of it. */
/** A signal has been sent by then, but the kernel ends the process in its own time: on a busy machine a moment later. */
async function isGone(pid: number): Promise<boolean> {
  const deadline = performance.now() + 5_000;
  for (;;) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
    if (stat === undefined || /\) [ZX] /.test(stat)) return true;
    if (performance.now() > deadline) return false;
    await delay(2);
  }
}
