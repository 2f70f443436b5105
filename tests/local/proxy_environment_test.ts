import assert from "node:assert/strict";
import { test } from "node:test";
import { parseArguments } from "../../src/cli/options.ts";
import { buildWaypointConfig } from "../../src/cli/waypoint_config.ts";
import { waypointOptions } from "../../src/cli/waypoint_options.ts";
import type { LocalConfig } from "../../src/cli/config.ts";
import { waypointEnvironment, waypointFlags } from "../../src/local/proxy_environment.ts";

const POD = {
  uid: "Kubernetes//Pod/shop/way",
  name: "way",
  namespace: "shop",
  serviceAccount: "way",
  identity: "spiffe://cluster.local/ns/shop/sa/way",
  node: "a",
  addresses: ["10.244.0.2", "fd00:10:244::2"],
  labels: {},
  captured: false,
  isWaypoint: true,
  command: undefined,
  env: {},
};

function build(log: LocalConfig["log"], workers = 1) {
  const config = {
    role: "local",
    meshFile: undefined,
    stateDir: undefined,
    workers,
    dnsCapture: false,
    cni: false,
    log,
  };
  const parsed = parseArguments(waypointFlags(config as LocalConfig), waypointOptions);
  return buildWaypointConfig(parsed, waypointEnvironment(POD, "/run/w.sock"), {
    cpus: 8,
    exists: () => false,
    readText: () => undefined,
    loadYaml: () => Promise.reject(new Error("there is nothing to read")),
  }, "");
}

test("proxy_environment: a waypoint takes what it is started with", async () => {
  const config = await build({ filter: "info", format: "plain" }, 3);
  assert.equal(config.localControl, "/run/w.sock");
  assert.deepEqual(
    [config.podName, config.podNamespace, config.serviceAccount, config.instanceIp, config.workers, config.nodeName],
    ["way", "shop", "way", "10.244.0.2", 3, "a"],
  );
  assert.deepEqual([config.exitOnZeroConnections, config.minimumDrainMs], [true, 0]);
  assert.deepEqual(config.log, { filter: "info", format: "plain" });
});

test("proxy_environment: levels of the log are told in the words of a waypoint's flags", async () => {
  for (
    const [filter, told] of [["warn,access=off", "warn,access=off"], ["trace", "debug"], [
      "a::b=error,off",
      "a::b=error,off",
    ]]
  ) {
    assert.deepEqual((await build({ filter: filter!, format: "json" })).log, { filter: told, format: "json" });
  }
});
