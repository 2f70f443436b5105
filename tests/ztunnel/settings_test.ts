import assert from "node:assert/strict";
import { test } from "node:test";
import { parseArguments } from "../../src/cli/options.ts";
import { buildZtunnelConfig } from "../../src/cli/ztunnel_config.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";
import type { WorkerSettings } from "../../src/ztunnel/messages.ts";
import { socketTuning, workerSettings } from "../../src/ztunnel/settings.ts";

async function settings(env: Record<string, string> = {}): Promise<WorkerSettings> {
  const host = { cpus: 1, exists: () => false, readText: () => undefined, loadYaml: () => Promise.reject(new Error()) };
  return workerSettings(await buildZtunnelConfig(parseArguments([], ztunnelOptions), env, host, "ztunnel"));
}

test("settings: the defaults of the data path are ztunnel's", async () => {
  const defaults = await settings();
  assert.equal(defaults.packetMark, 1337);
  assert.equal(defaults.ipv6Enabled, true);
  assert.equal(defaults.poolMaxStreamsPerConnection, 100);
  assert.equal(defaults.streamWindowBytes, 4 << 20);
  assert.equal(defaults.connectionWindowBytes, 16 << 20);
  assert.equal(defaults.maxFrameBytes, 1 << 20);
  assert.deepEqual(defaults.illegalPorts, [15008, 15006, 15001]);
  assert.deepEqual(socketTuning(defaults), {
    keepalive: { idleSeconds: 180, intervalSeconds: 180, probes: 9 },
    userTimeoutMs: undefined,
  });
  structuredClone(defaults);
});

test("settings: the SOCKS port is the proxy's own as well, when it is on", async () => {
  assert.ok((await settings({ UNSTABLE_ENABLE_SOCKS5: "true" })).illegalPorts.includes(15080));
});

test("settings: keepalive may be off, and the user timeout covers all probes", async () => {
  assert.equal(socketTuning(await settings({ KEEPALIVE_ENABLED: "false" })).keepalive, undefined);
  const on = await settings({
    KEEPALIVE_TIME: "20s",
    KEEPALIVE_INTERVAL: "3s",
    KEEPALIVE_RETRIES: "4",
    USER_TIMEOUT_ENABLED: "true",
  });
  assert.deepEqual(socketTuning(on), {
    keepalive: { idleSeconds: 20, intervalSeconds: 3, probes: 4 },
    userTimeoutMs: 32_000,
  });
});

test("settings: no time is so short that the kernel would take it for none", async () => {
  const { keepaliveIdleSeconds, keepaliveIntervalSeconds } = await settings({
    KEEPALIVE_TIME: "10ms",
    KEEPALIVE_INTERVAL: "10ms",
  });
  assert.deepEqual([keepaliveIdleSeconds, keepaliveIntervalSeconds], [1, 1]);
});
