/**
 * istio.security.Authorization from bytes (reference ztunnel, section 3.8), stricter than ztunnel: what a policy says must be beyond
 * doubt. A matcher without a form, an address that is none, an unknown enum, field or extension makes the whole policy unreadable,
 * because leaving any of them out could widen access.
 */
import { createPolicy } from "../../../mesh/defaults.ts";
import type { Authorization, Clause, Match, Rule, ServiceAccountMatch, StringMatch } from "../../../mesh/types.ts";
import { cidrOf, eachNumber } from "./parts.ts";
import { enumName, once, Unreadable, WireReader } from "./wire.ts";

const SCOPES = ["Global", "Namespace", "WorkloadSelector"] as const;
const ACTIONS = ["Allow", "Deny"] as const;
const PRESENCE: StringMatch = { Presence: [] };

/** Fields of a Match in the order of their numbers, from 1. */
const MATCH_FIELDS = [
  "namespaces",
  "notNamespaces",
  "principals",
  "notPrincipals",
  "sourceIps",
  "notSourceIps",
  "destinationIps",
  "notDestinationIps",
  "destinationPorts",
  "notDestinationPorts",
  "serviceAccounts",
  "notServiceAccounts",
] as const;

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

/** Throws Unreadable. */
export function decodePolicy(bytes: Uint8Array): Authorization {
  const reader = new WireReader();
  reader.from(bytes);
  const end = bytes.length;
  let name = "", namespace = "";
  let scope = 0, action = 0;
  let dryRun = false;
  const rules: Rule[] = [];
  while (reader.next(end)) {
    switch (reader.field) {
      case 1:
        name = reader.text(end);
        break;
      case 2:
        namespace = reader.text(end);
        break;
      case 3:
        scope = reader.varint();
        break;
      case 4:
        action = reader.varint();
        break;
      case 5:
        rules.push(inside(reader, end, ruleIn));
        break;
      case 6:
        dryRun = reader.flag();
        break;
      default:
        throw unknownField(reader, "the policy");
    }
  }
  if (name === "" || namespace === "") throw new Unreadable("a policy needs a name and a namespace");
  if (namespace.includes("/")) throw new Unreadable("a policy's namespace has no slash");
  return createPolicy({
    name,
    namespace,
    scope: enumName(SCOPES, scope, "scope"),
    action: enumName(ACTIONS, action, "action"),
    rules,
    dryRun,
  });
}

/**
 * Where a policy that cannot be read would apply. A scope that is not known, or cannot be found, counts as the namespace; a dry run
 * counts only if the rest can be told apart.
 */
export function policyScope(bytes: Uint8Array): Pick<Authorization, "scope" | "dryRun"> {
  let scope: Authorization["scope"] = "Global";
  let dryRun = false;
  try {
    const reader = new WireReader();
    reader.from(bytes);
    while (reader.next(bytes.length)) {
      if (reader.field === 3) scope = SCOPES[reader.varint()] ?? "Namespace";
      else if (reader.field === 6) dryRun = reader.flag();
      else reader.skip(bytes.length);
    }
    return { scope, dryRun };
  } catch {
    return { scope: "Namespace", dryRun: false };
  }
}

function inside<T>(reader: WireReader, end: number, read: (reader: WireReader, stop: number) => T): T {
  return read(reader, reader.delimited(end));
}

function ruleIn(reader: WireReader, end: number): Rule {
  const clauses: Clause[] = [];
  while (reader.next(end)) {
    if (reader.field !== 1) throw unknownField(reader, "a rule");
    clauses.push(inside(reader, end, clauseIn));
  }
  return clauses;
}

function clauseIn(reader: WireReader, end: number): Clause {
  const matches: Match[] = [];
  while (reader.next(end)) {
    if (reader.field !== 2) throw unknownField(reader, "a clause");
    matches.push(inside(reader, end, matchIn));
  }
  return matches;
}

function matchIn(reader: WireReader, end: number): Match {
  const match: Mutable<Match> = {};
  while (reader.next(end)) {
    const name = MATCH_FIELDS[reader.field - 1];
    switch (name) {
      case "namespaces":
      case "notNamespaces":
      case "principals":
      case "notPrincipals":
        match[name] = [...match[name] ?? [], inside(reader, end, stringMatchIn)];
        break;
      case "sourceIps":
      case "notSourceIps":
      case "destinationIps":
      case "notDestinationIps":
        match[name] = [...match[name] ?? [], inside(reader, end, rangeIn)];
        break;
      case "destinationPorts":
      case "notDestinationPorts": {
        const ports = [...match[name] ?? []];
        eachNumber(reader, end, (port) => {
          if (port === 0 || port > 65_535) throw new Unreadable(`${name} has ${port}, which is no port`);
          ports.push(port);
        });
        if (ports.length > 0) match[name] = ports;
        break;
      }
      case "serviceAccounts":
      case "notServiceAccounts":
        match[name] = [...match[name] ?? [], inside(reader, end, serviceAccountIn)];
        break;
      default:
        throw unknownField(reader, "a match");
    }
  }
  return match;
}

function stringMatchIn(reader: WireReader, end: number): StringMatch {
  let match: StringMatch | undefined;
  while (reader.next(end)) {
    if (reader.field > 4) throw unknownField(reader, "a string match");
    once(match !== undefined, "the form of a string match");
    if (reader.field === 1) match = { Exact: reader.text(end) };
    else if (reader.field === 2) match = { Prefix: reader.text(end) };
    else if (reader.field === 3) match = { Suffix: reader.text(end) };
    else match = presenceIn(reader, reader.delimited(end));
  }
  if (match === undefined) throw new Unreadable("a string match has no form: exact, prefix, suffix or presence");
  return match;
}

/** google.protobuf.Empty. */
function presenceIn(reader: WireReader, end: number): StringMatch {
  if (reader.next(end)) throw unknownField(reader, "presence");
  return PRESENCE;
}

function rangeIn(reader: WireReader, end: number): string {
  let bytes: Uint8Array | undefined;
  let length = 0;
  while (reader.next(end)) {
    if (reader.field === 1) bytes = reader.view(end);
    else if (reader.field === 2) length = reader.varint();
    else throw unknownField(reader, "an address");
  }
  if (bytes?.length !== 4 && bytes?.length !== 16) throw new Unreadable(`an address of ${bytes?.length ?? 0} bytes`);
  return cidrOf(bytes, length);
}

function serviceAccountIn(reader: WireReader, end: number): ServiceAccountMatch {
  let namespace = "", serviceAccount = "";
  while (reader.next(end)) {
    if (reader.field === 1) namespace = reader.text(end);
    else if (reader.field === 2) serviceAccount = reader.text(end);
    else throw unknownField(reader, "a service account match");
  }
  if (namespace === "" || serviceAccount === "") {
    throw new Unreadable("a service account match needs a namespace and a service account");
  }
  return { namespace, serviceAccount };
}

function unknownField(reader: WireReader, of: string): Unreadable {
  return new Unreadable(`${of} has field ${reader.field}, which this version does not know`);
}
