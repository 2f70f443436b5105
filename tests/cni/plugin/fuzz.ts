/** Fuzz targets of what the plugin and the agent read: network configuration, CNI_ARGS, prevResult, add event. */
import assert from "node:assert/strict";
import { judgePod, parseSelectors, podOverrides } from "../../../src/cni/eligibility.ts";
import { parsePluginConf } from "../../../src/cni/net_conf.ts";
import { decodeAddEvent, encodeAddEvent } from "../../../src/cni/plugin_event.ts";
import { parseCniArgs } from "../../../src/cni/plugin/cni_args.ts";
import { CniError } from "../../../src/cni/plugin/cni_error.ts";
import { type CniResult, formatResult, parseResult } from "../../../src/cni/plugin/result.ts";
import { SUPPORTED_VERSIONS } from "../../../src/cni/plugin/versions.ts";

const decoder = new TextDecoder();

/** What the work gives; undefined when it refuses its input in the way it promises to. */
function orRefused<T>(work: () => T, promised: RegExp): T | undefined {
  try {
    return work();
  } catch (error) {
    // A bug is a TypeError, RangeError and so on.
    if (!(error instanceof CniError) && (error as Error).constructor !== Error) throw error;
    assert.match((error as Error).message, promised);
    return undefined;
  }
}

function fuzzNetConf(bytes: Uint8Array): void {
  const conf = orRefused(
    () => parsePluginConf(decoder.decode(bytes)),
    /^(failed to parse network configuration|network configuration):? /,
  );
  if (conf === undefined) return;
  assert.ok(conf.cniVersion !== "" && conf.agentRunDir !== "");
  const selectors = orRefused(() => parseSelectors(conf.enablementSelectors), /^enablement selector/);
  if (selectors === undefined) return;
  const written = JSON.parse(JSON.stringify(selectors));
  assert.deepEqual(parseSelectors(written), selectors);
  const labels = { "istio.io/dataplane-mode": "ambient" };
  const { eligible, reason } = judgePod({ metadata: { labels } }, labels, selectors);
  assert.equal(eligible, reason !== "no selector matches");
}

function fuzzArgs(bytes: Uint8Array): void {
  const args = orRefused(() => parseCniArgs(decoder.decode(bytes)), /^ARGS: /);
  if (args === undefined) return;
  for (const value of Object.values(args)) assert.ok(!/[;=]/.test(value));
}

function fuzzPrevResult(bytes: Uint8Array): void {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    return;
  }
  for (const version of SUPPORTED_VERSIONS) {
    const result = orRefused(() => parseResult(value, version), /^prevResult/);
    if (result === undefined) continue;
    orRefused(() => encodeAddEvent({ netns: "/n", podName: "p", podNamespace: "s" }, result.ips), /^$/);
    writeInAllVersions(result);
  }
}

/** What a version can say is read and written again without a change. */
function writeInAllVersions(result: CniResult): void {
  for (const version of SUPPORTED_VERSIONS) {
    const text = orRefused(() => formatResult(result, version), /^cannot convert: /);
    if (text !== undefined) assert.equal(formatResult(parseResult(JSON.parse(text), version), version), text);
  }
}

function fuzzEvent(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  const event = orRefused(() => decodeAddEvent(text), /^CNI event: /);
  if (event === undefined) return;
  const addresses = event.ips.map((ip) => ({
    interface: undefined,
    address: `${ip}/${ip.includes(":") ? 64 : 24}`,
    gateway: undefined,
  }));
  assert.deepEqual(decodeAddEvent(encodeAddEvent(event, addresses)), event);
}

function fuzzOverrides(bytes: Uint8Array): void {
  const [ingress, dns, interfaces] = decoder.decode(bytes).split("\n---\n");
  const annotations = {
    "ambient.istio.io/bypass-inbound-capture": ingress ?? "",
    "ambient.istio.io/dns-capture": dns ?? "",
    "istio.io/reroute-virtual-interfaces": interfaces ?? "",
  };
  const { virtualInterfaces, warnings } = podOverrides({ metadata: { annotations } });
  for (const name of virtualInterfaces) assert.match(name, /^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}$/);
  for (const line of warnings) assert.ok(!/\n/.test(line));
}

export const targets = [
  { name: "cni-net-conf", corpusDir: "tests/corpus/cni_net_conf", target: fuzzNetConf },
  { name: "cni-args", corpusDir: "tests/corpus/cni_args", target: fuzzArgs },
  { name: "cni-prev-result", corpusDir: "tests/corpus/cni_prev_result", target: fuzzPrevResult },
  { name: "cni-event", corpusDir: "tests/corpus/cni_event", target: fuzzEvent },
  { name: "cni-overrides", corpusDir: "tests/corpus/cni_overrides", target: fuzzOverrides },
];
