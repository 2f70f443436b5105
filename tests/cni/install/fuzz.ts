/** Fuzz target of the network configurations of others: refused, or merged with nothing of theirs lost. */
import assert from "node:assert/strict";
import {
  configText,
  entryProblem,
  isSame,
  type NetworkConfig,
  readNetworkConfig,
  withEntry,
  withoutEntry,
} from "../../../src/cni/install/conflist.ts";
import type { Random } from "../../support/fuzz.ts";
import { ENTRY } from "./support.ts";

function fuzzConflist(bytes: Uint8Array, random: Random): void {
  let config: NetworkConfig;
  try {
    config = readNetworkConfig(bytes, random.oneIn(2) ? "x.conf" : "x.conflist");
  } catch (error) {
    assert.match((error as Error).message, /^(it|the list|plugins\[\d+\]) (is|has) /);
    return;
  }
  const merged = readNetworkConfig(configText(withEntry(config, ENTRY)), "x.conflist");
  assert.equal(entryProblem(merged, ENTRY), undefined);
  const others = (config.kind === "conf" ? [config.content] : config.plugins).filter(({ type }) =>
    type !== "istio-cni"
  );
  if (config.kind === "conf") return;
  assert.ok(isSame(withoutEntry(merged, ENTRY), { ...config.content, plugins: others }));
}

export const targets = [
  { name: "cni conflist", corpusDir: "tests/corpus/cni_conflist", target: fuzzConflist, maxBytes: 4096 },
];
