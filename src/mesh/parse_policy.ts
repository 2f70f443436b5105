/**
 * Rules of an L4 policy from plain values: `[[[match]]]`, which are alternatives of conjunctions of alternatives. Strict:
 * what a matcher means must be beyond doubt.
 */
import {
  type Decoder,
  describe,
  integer,
  isRecord,
  list,
  nonEmptyText,
  object,
  optionalNotNull,
  parsed,
  required,
  text,
} from "./decode.ts";
import { formatCidr, parseCidr } from "./ip.ts";
import type { Match, Rule, ServiceAccountMatch, StringMatch } from "./types.ts";

const STRING_MATCHES = `write one of {Exact: text}, {Prefix: text}, {Suffix: text}, {Presence: []}`;

const stringMatch: Decoder<StringMatch> = (value, path, problems) => {
  const placeholder: StringMatch = { Exact: "" };
  if (!isRecord(value)) {
    problems.add(path, `expected a string match, got ${describe(value)}: ${STRING_MATCHES}`);
    return placeholder;
  }
  const names = Object.keys(value);
  if (names.length !== 1) {
    problems.add(path, `a string match has exactly one form, this has ${names.length}: ${STRING_MATCHES}`);
    return placeholder;
  }
  const [form] = names;
  const at = [...path, form];
  const operand = value[form];
  switch (form) {
    case "Exact":
      return { Exact: text(operand, at, problems) };
    case "Prefix":
      return { Prefix: text(operand, at, problems) };
    case "Suffix":
      return { Suffix: text(operand, at, problems) };
    case "Presence":
      if (!Array.isArray(operand) || operand.length > 0) {
        problems.add(at, `expected an empty list, got ${describe(operand)}: write {Presence: []}`);
      }
      return { Presence: [] };
    default:
      problems.add(at, `unknown string match "${form.slice(0, 60)}": ${STRING_MATCHES}`);
      return placeholder;
  }
};

const range = parsed(
  (value) => {
    const cidr = parseCidr(value);
    return cidr === undefined ? undefined : formatCidr(cidr);
  },
  `an address range: write it like "10.0.0.0/8" or "2001:db8::/32"`,
  "",
);

const serviceAccount = object<ServiceAccountMatch>({
  namespace: required(nonEmptyText, ""),
  serviceAccount: required(nonEmptyText, ""),
});

const strings = optionalNotNull(list(stringMatch), undefined);
const serviceAccounts = optionalNotNull(list(serviceAccount), undefined);
const ranges = optionalNotNull(list(range), undefined);
const ports = optionalNotNull(list(integer(1, 65_535)), undefined);

const decodeFields = object<Match>({
  namespaces: strings,
  notNamespaces: strings,
  serviceAccounts,
  notServiceAccounts: serviceAccounts,
  principals: strings,
  notPrincipals: strings,
  sourceIps: ranges,
  notSourceIps: ranges,
  destinationIps: ranges,
  notDestinationIps: ranges,
  destinationPorts: ports,
  notDestinationPorts: ports,
});

/** Only the fields that are there: most matches have one or two of twelve. */
const decodeMatch: Decoder<Match> = (value, path, problems) => {
  const fields = Object.entries(decodeFields(value, path, problems));
  return Object.fromEntries(fields.filter(([, entries]) => entries !== undefined));
};

export const decodeRules: Decoder<readonly Rule[]> = list(list(list(decodeMatch)));
