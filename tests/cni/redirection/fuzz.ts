/** Fuzz targets of what tools and the kernel say about a namespace's rules: any bytes. */
import assert from "node:assert/strict";
import { iptablesDifferences, planRestore } from "../../../src/cni/redirection/iptables_plan.ts";
import { iptablesRules } from "../../../src/cni/redirection/iptables_rules.ts";
import { canonicalRule, parseSave, targetOf } from "../../../src/cni/redirection/iptables_save.ts";
import {
  describeListing,
  listingDifferences,
  type NftListing,
  readListing,
} from "../../../src/cni/redirection/nftables_listing.ts";
import { DEFAULT_REDIRECTION, PROBE_ADDRESS } from "../../../src/cni/redirection/redirection.ts";
import { NLMSG_HEADER_BYTES, readAttributes, readMessages, readText, readU32 } from "../../../src/platform/netlink.ts";

const decoder = new TextDecoder();
const WANTED = iptablesRules("ipv4", DEFAULT_REDIRECTION);
const EXPECTED = describeListing(DEFAULT_REDIRECTION, PROBE_ADDRESS);

function isRefusal(error: unknown, words: RegExp): boolean {
  return error instanceof Error && words.test(error.message);
}

/** Whatever is there, the plan asks for nothing that is not ours, and none for what needs none. */
function fuzzSave(bytes: Uint8Array): void {
  let found;
  try {
    found = parseSave(decoder.decode(bytes));
  } catch (error) {
    if (isRefusal(error, /incompatible/)) return;
    throw error;
  }
  for (const { rules } of found.values()) {
    for (const { text } of rules) {
      targetOf(text);
      assert.equal(canonicalRule(text), canonicalRule(text));
    }
  }
  const text = planRestore(found, WANTED);
  assert.equal(text === "", iptablesDifferences("iptables", found, WANTED).length === 0);
  for (const line of text.split("\n")) {
    if (/^-[FX] |^:/.test(line)) assert.match(line, /^(?:-[FX] |:)ISTIO_/);
    if (/^-D /.test(line)) assert.match(line, /ISTIO_|^-D (?:INPUT|FORWARD|OUTPUT) -p (?:tcp|udp) -j DROP$/);
  }
}

function fuzzListing(bytes: Uint8Array): void {
  let listing: NftListing;
  try {
    listing = readListing(decoder.decode(bytes));
  } catch (error) {
    if (isRefusal(error, /^nft -j: /)) return;
    throw error;
  }
  listingDifferences(listing, EXPECTED);
  assert.deepEqual(listingDifferences(listing, listing), []);
}

function fuzzNetlink(bytes: Uint8Array): void {
  let end = 0;
  for (const { body } of readMessages(bytes)) {
    end += NLMSG_HEADER_BYTES + body.length;
    for (const value of readAttributes(body, 4).values()) {
      readText(value);
      readU32(value, false);
      readAttributes(value);
    }
  }
  assert.ok(end <= bytes.length);
}

export const targets = [
  { name: "iptables-save", corpusDir: "tests/corpus/iptables_save", target: fuzzSave, maxBytes: 8192 },
  { name: "nft listing", corpusDir: "tests/corpus/nft_listing", target: fuzzListing, maxBytes: 16_384 },
  { name: "netlink", corpusDir: "tests/corpus/netlink", target: fuzzNetlink, maxBytes: 4096 },
];
