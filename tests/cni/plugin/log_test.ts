import assert from "node:assert/strict";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PluginLogger } from "../../../src/cni/plugin/log.ts";
import { appendToRollingFile, tidyRollingFile } from "../../../src/cni/plugin/rolling_file.ts";
import { AgentStandIn, answerOk, answerWith } from "./support.ts";

const NOW = new Date("2026-11-23T10:11:12.345Z");

function logger(): { readonly log: PluginLogger; readonly stderr: Record<string, string>[] } {
  const stderr: Record<string, string>[] = [];
  return { log: new PluginLogger({ stderr: (text) => void stderr.push(JSON.parse(text)), now: () => NOW }), stderr };
}

async function withAgent(
  answers: Parameters<typeof AgentStandIn.start>[0],
  work: (agent: AgentStandIn) => Promise<void>,
): Promise<void> {
  const agent = await AgentStandIn.start(answers);
  try {
    await work(agent);
  } finally {
    agent.stop();
  }
}

test("log: one line goes to stderr, the file and the agent", () =>
  withAgent({ log: answerOk }, async (agent) => {
    const { log, stderr } = logger();
    log.configure("info", agent.directory);
    log.setPod("shop", "web-1");
    log.info("hello");
    log.debug("unheard");
    log.error("broken");
    await log.flush();
    const time = "2026-11-23T10:11:12.345Z";
    const lines = [
      { level: "info", time, scope: "cni-plugin", msg: "hello", pod: "shop/web-1" },
      { level: "error", time, scope: "cni-plugin", msg: "broken", pod: "shop/web-1" },
    ];
    assert.deepEqual(stderr, lines);
    assert.deepEqual(agent.logLines, lines);
    assert.deepEqual([agent.logs.length, agent.logs[0].method, agent.logs[0].path], [1, "POST", "/log"]);
    const file = join(agent.directory, "istio-cni.log");
    assert.deepEqual(readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line)), lines);
    assert.equal(statSync(file).mode & 0o777, 0o600);
  }));

test("log: levels, and what is not known counts as info", () => {
  const table: [string, string[]][] = [
    ["debug", ["debug", "info", "warn", "error"]],
    ["info", ["info", "warn", "error"]],
    ["", ["info", "warn", "error"]],
    ["verbose", ["info", "warn", "error"]],
    ["warn", ["warn", "error"]],
    ["error", ["error"]],
    ["fatal", ["error"]],
    ["none", []],
  ];
  for (const [level, written] of table) {
    const { log, stderr } = logger();
    log.configure(level, "/nowhere/at/all");
    log.debug("1");
    log.info("2");
    log.warn("3");
    log.error("4");
    assert.deepEqual(stderr.map((line) => line.level), written, level);
  }
});

test("log: debug lines do not go to the file", () =>
  withAgent({}, async (agent) => {
    const { log } = logger();
    log.configure("debug", agent.directory);
    log.debug("1");
    assert.equal(existsSync(join(agent.directory, "istio-cni.log")), false);
    await log.flush();
  }));

test("log: an agent that fails, hangs or is away disturbs nobody", async () => {
  for (const answers of [{ log: answerWith(500, "no") }, {}, { log: () => {} }]) {
    await withAgent(answers, async (agent) => {
      const { log, stderr } = logger();
      log.configure("info", agent.directory);
      log.info("hello");
      const startMs = performance.now();
      await log.flush();
      assert.ok(performance.now() - startMs < 3_000);
      assert.equal(stderr.length, 1);
    });
  }
});

test("log: with nothing to say the agent is not asked, and a line is sent once", () =>
  withAgent({ log: answerOk }, async (agent) => {
    const { log } = logger();
    log.configure("info", agent.directory);
    await log.flush();
    assert.equal(agent.logs.length, 0);
    log.info("hello");
    await log.flush();
    await log.flush();
    assert.equal(agent.logLines.length, 1);
  }));

test("log: a huge message is cut", () => {
  const { log, stderr } = logger();
  log.error("x".repeat(1 << 20));
  assert.ok(stderr[0].msg.length < 9_000);
});

async function inDirectory(work: (path: string, files: () => string[]) => void | Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "ambit-rolling-"));
  try {
    await work(join(directory, "istio-cni.log"), () => readdirSync(directory).sort());
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("rolling_file: at the limit the file becomes the older one, and one older one is kept", () =>
  inDirectory((path, files) => {
    const at = (second: number) => new Date(NOW.getTime() + second * 1000);
    for (let i = 0; i < 3; i++) appendToRollingFile(path, "0123456789", at(0), 30);
    assert.deepEqual(files(), ["istio-cni.log"]);
    appendToRollingFile(path, "next", at(1), 30);
    assert.deepEqual(files(), ["istio-cni-2026-11-23T10-11-13.345.log", "istio-cni.log"]);
    assert.equal(readFileSync(path, "utf8"), "next");
    appendToRollingFile(path, "x".repeat(30), at(2), 30);
    assert.deepEqual(files(), ["istio-cni-2026-11-23T10-11-14.345.log", "istio-cni.log"]);
  }));

test("rolling_file: an older file goes after two days", () =>
  inDirectory((path, files) => {
    const older = path.replace(".log", "-2026-11-20T00-00-00.000.log");
    writeFileSync(older, "old");
    utimesSync(older, NOW, new Date(NOW.getTime() - 47 * 3600_000));
    tidyRollingFile(path, NOW);
    assert.equal(files().length, 1);
    utimesSync(older, NOW, new Date(NOW.getTime() - 49 * 3600_000));
    tidyRollingFile(path, NOW);
    assert.deepEqual(files(), []);
  }));

test("rolling_file: while another process rotates, lines are still written; one that died does not stop it for good", () =>
  inDirectory((path, files) => {
    const lock = `${path}.lock`;
    appendToRollingFile(path, "x".repeat(30), NOW, 30);
    writeFileSync(lock, "");
    utimesSync(lock, NOW, NOW);
    appendToRollingFile(path, "more", NOW, 30);
    assert.equal(readFileSync(path, "utf8").length, 34);
    const later = new Date(NOW.getTime() + 61_000);
    appendToRollingFile(path, "more", later, 30);
    appendToRollingFile(path, "last", later, 30);
    assert.equal(readFileSync(path, "utf8"), "last");
    assert.equal(files().length, 2);
  }));
