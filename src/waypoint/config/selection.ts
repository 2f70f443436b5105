/**
 * The matcher tree of main_internal to a selection: address, then port, then what the bytes are (waypoint.md appendix C). Only trees of this form
 * are understood; istiod sends no other.
 */
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import {
  ApplicationProtocolInputSchema,
  DestinationIPInputSchema,
  DestinationPortInputSchema,
  FilterStateInputSchema,
} from "../../gen/envoy/extensions/matching/common_inputs/network/v3/network_inputs_pb.ts";
import type { TypedExtensionConfig } from "../../gen/xds/core/v3/extension_pb.ts";
import { IPMatcherSchema } from "../../gen/xds/type/matcher/v3/ip_pb.ts";
import {
  type Matcher,
  type Matcher_MatcherTree as Tree,
  type Matcher_OnMatch as OnMatch,
  MatcherSchema,
} from "../../gen/xds/type/matcher/v3/matcher_pb.ts";
import type { ChainChoice, ChainName, PortSelection, SelectionSpec, SniffedProtocol } from "../spec/mod.ts";
import { expectKnown, expectUnderstood, typeOf, understand, unpack, Unsupported } from "./guard.ts";

const MATCHER = understand(MatcherSchema, "matcher_tree on_no_match");
const IP_MATCHER = understand(IPMatcherSchema, "range_matchers");
const STRING = understand(StringValueSchema, "value");
const FILTER_STATE = understand(FilterStateInputSchema, "key");
const AUTHORITY_KEY = "io.istio.connect_authority";
const NOTHING: SelectionSpec = { authorities: {}, ranges: [] };

/** Ranges read between two interruptions. */
const RANGES_PER_STEP = 16;

/** @throws Unsupported */
export function selection(matcher: Matcher | undefined): SelectionSpec {
  const steps = selectionSteps(matcher);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same, to be interrupted: thousands of services are tens of milliseconds. @throws Unsupported */
export function* selectionSteps(matcher: Matcher | undefined): Generator<void, SelectionSpec> {
  if (matcher === undefined) return NOTHING;
  const tree = treeOf(matcher);
  if (typeOf(tree.input?.typedConfig) === FilterStateInputSchema.typeName) return yield* byAuthority(matcher, tree);
  if (typeOf(tree.input?.typedConfig) !== DestinationIPInputSchema.typeName) throw unknownInput(tree.input);
  if (matcher.onNoMatch !== undefined) throw new Unsupported("a chain for all other addresses is not supported");
  return { authorities: {}, ranges: yield* byAddress(tree) };
}

function treeOf(matcher: Matcher): Tree {
  expectUnderstood(MATCHER, matcher);
  if (matcher.matcherType.case !== "matcherTree") {
    throw new Unsupported(`a matcher of type ${matcher.matcherType.case ?? "nothing"} is not supported`);
  }
  expectKnown(matcher.matcherType.value);
  return matcher.matcherType.value;
}

function* byAuthority(matcher: Matcher, tree: Tree): Generator<void, SelectionSpec> {
  const { key } = unpack(tree.input?.typedConfig, FILTER_STATE);
  if (key !== AUTHORITY_KEY) throw new Unsupported(`a selection by the filter state ${key} is not supported`);
  const authorities = exactMap(tree).map(([authority, found]) => [authority, chainOf(found)] as const);
  const next = matcher.onNoMatch?.onMatch;
  if (next !== undefined && next.case !== "matcher") {
    throw new Unsupported("a chain for all other authorities is not supported");
  }
  const rest = next === undefined ? NOTHING : yield* selectionSteps(next.value);
  return { authorities: Object.fromEntries(authorities), ranges: rest.ranges };
}

function* byAddress(tree: Tree): Generator<void, SelectionSpec["ranges"]> {
  if (tree.treeType.case !== "customMatch") {
    throw new Unsupported("addresses that are not matched by ranges are not supported");
  }
  const { rangeMatchers } = unpack(tree.treeType.value.typedConfig, IP_MATCHER);
  const found: SelectionSpec["ranges"][number][] = [];
  for (const { ranges, onMatch, exclusive } of rangeMatchers) {
    if (exclusive) throw new Unsupported("IPMatcher.exclusive is not supported");
    found.push({
      cidrs: ranges.map(({ addressPrefix, prefixLen }) => `${addressPrefix}/${prefixLen ?? 0}`),
      to: portSelection(onMatch),
    });
    if (found.length % RANGES_PER_STEP === 0) yield;
  }
  return found;
}

function portSelection(onMatch: OnMatch | undefined): PortSelection {
  if (onMatch?.onMatch.case !== "matcher") return { kind: "any", to: chainChoice(onMatch) };
  const tree = treeOf(onMatch.onMatch.value);
  if (typeOf(tree.input?.typedConfig) !== DestinationPortInputSchema.typeName) {
    return { kind: "any", to: chainChoice(onMatch) };
  }
  if (onMatch.onMatch.value.onNoMatch !== undefined) {
    throw new Unsupported("a chain for all other ports is not supported");
  }
  const ports = exactMap(tree).map(([port, found]) => {
    if (!/^\d{1,5}$/.test(port)) throw new Unsupported(`${JSON.stringify(port)} is no port`);
    return [Number(port), chainChoice(found)] as const;
  });
  return { kind: "ports", ports: Object.fromEntries(ports) };
}

/** As the inspector writes them. */
const PROTOCOLS: Readonly<Record<string, SniffedProtocol>> = {
  "'http/1.0'": "http/1.0",
  "'http/1.1'": "http/1.1",
  "'h2c'": "h2c",
};

function chainChoice(onMatch: OnMatch | undefined): ChainChoice {
  if (onMatch?.onMatch.case !== "matcher") return { kind: "chain", chain: chainOf(onMatch) };
  const matcher = onMatch.onMatch.value;
  const tree = treeOf(matcher);
  if (typeOf(tree.input?.typedConfig) !== ApplicationProtocolInputSchema.typeName) throw unknownInput(tree.input);
  const protocols: Partial<Record<SniffedProtocol, ChainName>> = {};
  for (const [protocol, found] of exactMap(tree)) {
    const known = PROTOCOLS[protocol];
    if (known === undefined) throw new Unsupported(`the protocol ${protocol} is not supported`);
    protocols[known] = chainOf(found);
  }
  if (matcher.onNoMatch !== undefined) protocols.other = chainOf(matcher.onNoMatch);
  return { kind: "sniff", protocols };
}

function exactMap(tree: Tree): readonly (readonly [string, OnMatch])[] {
  if (tree.treeType.case !== "exactMatchMap") {
    throw new Unsupported("a matcher other than an exact one is not supported");
  }
  return Object.entries(tree.treeType.value.map);
}

function chainOf(onMatch: OnMatch | undefined): ChainName {
  if (onMatch?.onMatch.case !== "action") throw new Unsupported("a match without a chain is not supported");
  expectKnown(onMatch);
  return unpack(onMatch.onMatch.value.typedConfig, STRING).value as ChainName;
}

function unknownInput(input: TypedExtensionConfig | undefined): Unsupported {
  return new Unsupported(`a selection by ${typeOf(input?.typedConfig) || "nothing"} is not supported`);
}
