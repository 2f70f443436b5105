/** Envoy's matchers to `spec/match.ts`. Whatever is unset or unknown is unsupported: it would match what nobody meant. */
import { RE2JS } from "re2js";
import {
  type HeaderMatcher,
  HeaderMatcherSchema,
  type QueryParameterMatcher,
  QueryParameterMatcherSchema,
} from "../../gen/envoy/config/route/v3/route_components_pb.ts";
import type { CidrRange } from "../../gen/envoy/config/core/v3/address_pb.ts";
import { type MetadataMatcher, MetadataMatcherSchema } from "../../gen/envoy/type/matcher/v3/metadata_pb.ts";
import {
  type RegexMatchAndSubstitute,
  RegexMatchAndSubstituteSchema,
  type RegexMatcher,
} from "../../gen/envoy/type/matcher/v3/regex_pb.ts";
import { type StringMatcher, StringMatcherSchema } from "../../gen/envoy/type/matcher/v3/string_pb.ts";
import type { ValueMatcher } from "../../gen/envoy/type/matcher/v3/value_pb.ts";
import {
  type FractionalPercent,
  FractionalPercent_DenominatorType as Denominator,
} from "../../gen/envoy/type/v3/percent_pb.ts";
import type {
  Cidr,
  HeaderMatch,
  MetadataMatch,
  MetadataValueMatch,
  PerMillion,
  QueryMatch,
  RegexRewriteSpec,
  TextMatch,
} from "../spec/mod.ts";
import { expectKnown, expectUnderstood, understand, Unsupported } from "./guard.ts";

const STRING = understand(StringMatcherSchema, "exact prefix suffix safe_regex contains ignore_case");

/** @throws Unsupported */
export function textMatch(matcher: StringMatcher | undefined): TextMatch {
  if (matcher === undefined) throw new Unsupported("a string matcher is missing");
  expectUnderstood(STRING, matcher);
  const { matchPattern, ignoreCase } = matcher;
  switch (matchPattern.case) {
    case "exact":
    case "prefix":
    case "suffix":
    case "contains":
      return { kind: matchPattern.case, text: matchPattern.value, ignoreCase };
    case "safeRegex":
      if (ignoreCase) throw new Unsupported("StringMatcher.ignore_case with a regular expression is not supported");
      return { kind: "regex", pattern: regex(matchPattern.value) };
    default:
      throw new Unsupported("a string matcher has no pattern");
  }
}

/** The pattern, which RE2 must take. @throws Unsupported */
export function regex(matcher: RegexMatcher | undefined): string {
  if (matcher === undefined) throw new Unsupported("a regular expression is missing");
  expectKnown(matcher);
  return checkedPattern(matcher.regex);
}

/** @throws Unsupported */
export function checkedPattern(pattern: string): string {
  try {
    RE2JS.compile(pattern);
  } catch (error) {
    throw new Unsupported(`the regular expression ${JSON.stringify(pattern)} is not RE2: ${(error as Error).message}`);
  }
  return pattern;
}

const SUBSTITUTE = understand(RegexMatchAndSubstituteSchema, "pattern substitution");

/** @throws Unsupported */
export function regexRewrite(rewrite: RegexMatchAndSubstitute | undefined): RegexRewriteSpec | undefined {
  if (rewrite === undefined) return undefined;
  expectUnderstood(SUBSTITUTE, rewrite);
  return { pattern: regex(rewrite.pattern), substitution: rewrite.substitution };
}

const HEADER = understand(
  HeaderMatcherSchema,
  "name exact_match safe_regex_match present_match prefix_match suffix_match contains_match string_match invert_match treat_missing_header_as_empty",
);

/** @throws Unsupported */
export function headerMatch(matcher: HeaderMatcher): HeaderMatch {
  expectUnderstood(HEADER, matcher);
  const { headerMatchSpecifier: specifier } = matcher;
  const name = matcher.name.toLowerCase();
  if (name === "") throw new Unsupported("a header matcher names no header");
  const common = { name, missingIsEmpty: matcher.treatMissingHeaderAsEmpty };
  // Envoy: present_match false matches where the header is absent.
  if (specifier.case === "presentMatch") {
    return { ...common, value: undefined, invert: matcher.invertMatch === specifier.value };
  }
  return { ...common, value: headerValue(specifier), invert: matcher.invertMatch };
}

function headerValue(specifier: HeaderMatcher["headerMatchSpecifier"]): TextMatch | undefined {
  const text = (kind: "exact" | "prefix" | "suffix" | "contains", value: string): TextMatch => ({
    kind,
    text: value,
    ignoreCase: false,
  });
  switch (specifier.case) {
    case "stringMatch":
      return textMatch(specifier.value);
    case "exactMatch":
      return text("exact", specifier.value);
    case "prefixMatch":
      return text("prefix", specifier.value);
    case "suffixMatch":
      return text("suffix", specifier.value);
    case "containsMatch":
      return text("contains", specifier.value);
    case "safeRegexMatch":
      return { kind: "regex", pattern: regex(specifier.value) };
    default:
      throw new Unsupported("a header matcher has no condition");
  }
}

const QUERY = understand(QueryParameterMatcherSchema, "name string_match present_match");

/** @throws Unsupported */
export function queryMatch(matcher: QueryParameterMatcher): QueryMatch {
  expectUnderstood(QUERY, matcher);
  const { name, queryParameterMatchSpecifier: specifier } = matcher;
  switch (specifier.case) {
    case "stringMatch":
      return { name, value: textMatch(specifier.value) };
    case "presentMatch":
      if (!specifier.value) throw new Unsupported("a query matcher for an absent parameter is not supported");
      return { name, value: undefined };
    default:
      throw new Unsupported("a query matcher has no condition");
  }
}

const METADATA = understand(MetadataMatcherSchema, "filter path value invert");

/** @throws Unsupported */
export function metadataMatch(matcher: MetadataMatcher): MetadataMatch {
  expectUnderstood(METADATA, matcher);
  const path = matcher.path.map(({ segment }) => {
    if (segment.case !== "key") throw new Unsupported("a metadata matcher has a path segment without a key");
    return segment.value;
  });
  return { namespace: matcher.filter, path, value: valueMatch(matcher.value), invert: matcher.invert };
}

/** @throws Unsupported */
export function valueMatch(matcher: ValueMatcher | undefined): MetadataValueMatch {
  if (matcher === undefined) throw new Unsupported("a metadata matcher has no value");
  expectKnown(matcher);
  const { matchPattern: pattern } = matcher;
  switch (pattern.case) {
    case "stringMatch":
      return { kind: "text", match: textMatch(pattern.value) };
    case "boolMatch":
      return { kind: "bool", value: pattern.value };
    case "presentMatch":
      return { kind: "present", present: pattern.value };
    case "nullMatch":
      return { kind: "null" };
    case "listMatch":
      expectKnown(pattern.value);
      if (pattern.value.matchPattern.case !== "oneOf") throw new Unsupported("a list matcher has no condition");
      return { kind: "any", of: valueMatch(pattern.value.matchPattern.value) };
    case "orMatch":
      expectKnown(pattern.value);
      return { kind: "or", of: pattern.value.valueMatchers.map(valueMatch) };
    case "doubleMatch": {
      expectKnown(pattern.value);
      const { case: kind, value } = pattern.value.matchPattern;
      if (kind === "range") return { kind: "number", from: value.start, below: value.end };
      if (kind === "exact") return { kind: "number", from: value, below: value };
      throw new Unsupported("a number matcher has no condition");
    }
    default:
      throw new Unsupported("a metadata matcher has no condition");
  }
}

/** @throws Unsupported */
export function cidr(range: CidrRange): Cidr {
  expectKnown(range);
  const bits = range.addressPrefix.includes(":") ? 128 : 32;
  const length = range.prefixLen ?? 0;
  if (range.addressPrefix === "" || length > bits) {
    throw new Unsupported(`${range.addressPrefix}/${length} is no range`);
  }
  return `${range.addressPrefix}/${length}`;
}

const PER_UNIT: Readonly<Record<Denominator, number>> = {
  [Denominator.HUNDRED]: 10_000,
  [Denominator.TEN_THOUSAND]: 100,
  [Denominator.MILLION]: 1,
};

/** Runtime keys are not looked at: there is no runtime to change them. */
export function perMillion(fraction: FractionalPercent | undefined, fallback: PerMillion): PerMillion {
  if (fraction === undefined) return fallback;
  return Math.min(1_000_000, fraction.numerator * (PER_UNIT[fraction.denominator] ?? PER_UNIT[Denominator.HUNDRED]));
}
