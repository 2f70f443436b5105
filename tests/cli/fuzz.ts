/** Fuzz targets of the command line: argv with environment, single values, ProxyConfig. */
import assert from "node:assert/strict";
import { buildCniConfig } from "../../src/cli/cni_config.ts";
import { cniOptions } from "../../src/cli/cni_options.ts";
import { parseGoBoolean, parseGoInteger } from "../../src/cli/cni_values.ts";
import { parseDownwardFile } from "../../src/cli/downward_api.ts";
import { UsageError } from "../../src/cli/errors.ts";
import { parseIstioLogLevels } from "../../src/cli/log_options.ts";
import { selectCommand } from "../../src/cli/command.ts";
import { parseArguments, resolveOptions } from "../../src/cli/options.ts";
import { mergeProxyConfig } from "../../src/cli/proxy_config.ts";
import {
  formatDuration,
  parseBoolean,
  parseCpuQuantity,
  parseDuration,
  parseHeaderName,
  parseInteger,
  parseServerAddress,
  parseSocketAddress,
  parseWorkerCount,
  parseWorkloadInfo,
} from "../../src/cli/values.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";
import { parse as parseYaml } from "yaml";

const decoder = new TextDecoder();

/** Longest error line: a flag or variable name, at most 80 shown characters escaped, and what is allowed. */
const MAX_MESSAGE = 4096;

function expectUsageError(error: unknown): void {
  if (!(error instanceof UsageError)) throw error;
  assert.ok(error.message.length > 0 && !/\p{Cc}/u.test(error.message), JSON.stringify(error.message));
}

/** Lines of the input: those with `NAME=value` in capitals are the environment, the others arguments. */
function fuzzArguments(bytes: Uint8Array): void {
  const argv: string[] = [];
  const env: Record<string, string> = {};
  for (const line of decoder.decode(bytes).split("\n")) {
    const variable = /^([A-Z][A-Z0-9_]*[^=]*)=(.*)$/s.exec(line);
    if (variable === null) argv.push(line);
    else env[variable[1]] = variable[2];
  }
  try {
    selectCommand({ argv, programName: "ambit", cniCommand: env["CNI_COMMAND"] });
  } catch (error) {
    expectUsageError(error);
  }
  for (const tolerateUnknown of [false, true]) {
    try {
      const parsed = parseArguments(argv, ztunnelOptions, { tolerateUnknown });
      const values = resolveOptions(ztunnelOptions, parsed, env);
      assert.ok(Object.isFrozen(values));
      assert.equal(typeof values.ipv6Enabled, "boolean");
      assert.ok(values.http2FrameBytes >= 16_384 && values.keepaliveTimeMs >= 0);
    } catch (error) {
      expectUsageError(error);
      assert.ok((error as Error).message.length < MAX_MESSAGE);
    }
  }
}

/** The node agent's options take what they are given, or say what is wrong. */
function fuzzCniArguments(bytes: Uint8Array): void {
  const argv: string[] = [];
  const env: Record<string, string> = {};
  for (const line of decoder.decode(bytes).split("\n")) {
    const variable = /^([A-Z][A-Z0-9_]*)=(.*)$/s.exec(line);
    if (variable === null) argv.push(line);
    else env[variable[1]] = variable[2];
  }
  try {
    const config = buildCniConfig(parseArguments(argv, cniOptions), env, { hostName: "node" });
    assert.ok(Object.isFrozen(config) && Object.isFrozen(config.install) && Object.isFrozen(config.ambient));
    assert.ok(config.nodeName !== "" && config.monitoringPort >= 0 && config.install.kubeconfigMode <= 0o777);
    assert.ok(!config.ambient.enabled || config.ambient.selectors !== undefined);
  } catch (error) {
    expectUsageError(error);
    assert.ok((error as Error).message.length < MAX_MESSAGE);
  }
}

/** Each value parser gives something of its type or throws a plain Error that completes "… must be …". */
function fuzzValues(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  attempt(() => parseBoolean(text), (value) => typeof value === "boolean" && String(value) === text);
  attempt(() => parseInteger(text, 1, 65_535), (value) => Number.isInteger(value) && value >= 1 && value <= 65_535);
  attempt(
    () => parseDuration(text),
    (value) =>
      Number.isInteger(value) && value >= 0 && value < 2 ** 31 && parseDuration(formatDuration(value)) === value,
  );
  attempt(() => parseCpuQuantity(text), (value) => Number.isInteger(value) && value >= 0);
  attempt(() => parseWorkerCount(text), (value) => ["count", "percent", "all"].includes(value.kind));
  attempt(() => parseWorkloadInfo(text), (value) => Object.values(value).join("/") === text);
  attempt(() => parseServerAddress(text), (value) => value === undefined || new URL(value).protocol === "https:");
  attempt(() => parseSocketAddress(text), (value) => value === text);
  attempt(() => parseHeaderName(text), (value) => new Headers([[value, "x"]]).has(value));
  attempt(() => parseGoBoolean(text), (value) => typeof value === "boolean");
  attempt(() => parseGoInteger(text, -8, 4096), (value) => Number.isInteger(value) && value >= -8 && value <= 4096);
  attempt(() => parseIstioLogLevels(text), (value) => typeof value === "string");
}

function attempt<T>(parse: () => T, holds: (value: T) => boolean): void {
  let value: T;
  try {
    value = parse();
  } catch (error) {
    assert.equal((error as Error).constructor, Error, String(error));
    assert.match((error as Error).message, /^must /);
    return;
  }
  assert.ok(holds(value), JSON.stringify(value));
}

function fuzzProxyConfig(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  try {
    const merged = mergeProxyConfig({ origin: "mesh", text }, { origin: "env", text }, (yaml) =>
      // Warnings would go to the console, thousands a second.
      parseYaml(yaml, { logLevel: "error", maxAliasCount: 100 }));
    for (const value of Object.values(merged.proxyMetadata)) assert.equal(typeof value, "string");
    for (const port of [merged.statsPort, merged.proxyAdminPort]) assert.ok(port === undefined || port >= 1);
  } catch (error) {
    expectUsageError(error);
  }
}

/** Whatever is in the file: names to texts, and a count of what was passed over. */
function fuzzDownwardFile(bytes: Uint8Array): void {
  const { entries, skipped } = parseDownwardFile(decoder.decode(bytes));
  assert.ok(Number.isInteger(skipped) && skipped >= 0);
  for (const [name, value] of Object.entries(entries)) {
    assert.ok(name !== "" && !name.includes("\n"));
    assert.ok(value.isWellFormed());
  }
}

export const targets = [
  { name: "cni argv", corpusDir: "tests/corpus/cni_argv", target: fuzzCniArguments },
  { name: "argv", corpusDir: "tests/corpus/argv", target: fuzzArguments },
  { name: "option values", corpusDir: "tests/corpus/values", target: fuzzValues, maxBytes: 256 },
  { name: "proxy config", corpusDir: "tests/corpus/proxy_config", target: fuzzProxyConfig, maxBytes: 2048 },
  { name: "downward api", corpusDir: "tests/corpus/downward_api", target: fuzzDownwardFile, maxBytes: 2048 },
];
