/** `rules` of an AuthorizationPolicy: who (`from`), what (`to`) and under which conditions (`when`). */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { PolicyCondition, PolicyOperation, PolicyRule, PolicySource } from "./objects.ts";
import { readCondition } from "./policy_conditions.ts";
import { readPaths, readPatterns, readPorts, readRanges, readServiceAccounts } from "./policy_values.ts";

const SOURCE_KEYS = [
  "principals",
  "notPrincipals",
  "requestPrincipals",
  "notRequestPrincipals",
  "namespaces",
  "notNamespaces",
  "serviceAccounts",
  "notServiceAccounts",
  "ipBlocks",
  "notIpBlocks",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
] as const;
const OPERATION_KEYS = [
  "hosts",
  "notHosts",
  "ports",
  "notPorts",
  "methods",
  "notMethods",
  "paths",
  "notPaths",
] as const;

export function readPolicyRule(reader: FieldReader, fields: Fields, path: SourcePath): PolicyRule {
  reader.onlyKnown(fields, ["from", "to", "when"], path);
  return {
    from: readParts(reader, fields, "from", path, "source", readSource),
    to: readParts(reader, fields, "to", path, "operation", readOperation),
    when: readList(reader, fields, "when", path).map(({ fields, path }): PolicyCondition =>
      readCondition(reader, fields, path)
    ),
    path,
  };
}

/** An empty list is refused, for it reads as nobody and would mean everybody. */
function readList(reader: FieldReader, fields: Fields, key: string, path: SourcePath) {
  const list = reader.list(fields, key, path);
  if (Array.isArray(fields[key]) && list.length === 0) {
    reader.fail([...path, key], `${key} is empty; leave it out to say nothing about it`);
  }
  return list;
}

function readParts<T>(
  reader: FieldReader,
  rule: Fields,
  key: string,
  path: SourcePath,
  part: string,
  read: (reader: FieldReader, fields: Fields, path: SourcePath) => T,
): readonly T[] {
  return readList(reader, rule, key, path).flatMap(({ fields, path }) => {
    reader.onlyKnown(fields, [part], path);
    const at = [...path, part];
    if (fields[part] === undefined) {
      reader.fail(path, `${part} is missing`);
      return [];
    }
    const content = reader.object(fields[part], at);
    if (Object.keys(content).length === 0) {
      reader.fail(at, `${part} is empty; leave ${key} out to say nothing about it`);
    }
    return [read(reader, content, at)];
  });
}

function readSource(reader: FieldReader, fields: Fields, path: SourcePath): PolicySource {
  reader.onlyKnown(fields, SOURCE_KEYS, path, {
    trustDomains: `trustDomains is not supported by ambit local; write principals: ["TRUST-DOMAIN/*"]`,
    notTrustDomains: `notTrustDomains is not supported by ambit local; write notPrincipals: ["TRUST-DOMAIN/*"]`,
  });
  const patterns = (key: (typeof SOURCE_KEYS)[number]) => readPatterns(reader, fields, key, path);
  const ranges = (key: (typeof SOURCE_KEYS)[number]) => readRanges(reader, fields, key, path);
  const has = (...keys: readonly (typeof SOURCE_KEYS)[number][]) => keys.some((key) => fields[key] !== undefined);
  if (
    has("serviceAccounts", "notServiceAccounts") && has("principals", "notPrincipals", "namespaces", "notNamespaces")
  ) reader.fail(path, "serviceAccounts cannot stand beside principals or namespaces; write two sources or one of them");
  return {
    principals: patterns("principals"),
    notPrincipals: patterns("notPrincipals"),
    requestPrincipals: patterns("requestPrincipals"),
    notRequestPrincipals: patterns("notRequestPrincipals"),
    namespaces: patterns("namespaces"),
    notNamespaces: patterns("notNamespaces"),
    serviceAccounts: readServiceAccounts(reader, fields, "serviceAccounts", path),
    notServiceAccounts: readServiceAccounts(reader, fields, "notServiceAccounts", path),
    ipBlocks: ranges("ipBlocks"),
    notIpBlocks: ranges("notIpBlocks"),
    remoteIpBlocks: ranges("remoteIpBlocks"),
    notRemoteIpBlocks: ranges("notRemoteIpBlocks"),
    path,
  };
}

function readOperation(reader: FieldReader, fields: Fields, path: SourcePath): PolicyOperation {
  reader.onlyKnown(fields, OPERATION_KEYS, path);
  const patterns = (key: (typeof OPERATION_KEYS)[number]) => readPatterns(reader, fields, key, path);
  return {
    hosts: patterns("hosts"),
    notHosts: patterns("notHosts"),
    ports: readPorts(reader, fields, "ports", path),
    notPorts: readPorts(reader, fields, "notPorts", path),
    methods: patterns("methods"),
    notMethods: patterns("notMethods"),
    paths: readPaths(reader, fields, "paths", path),
    notPaths: readPaths(reader, fields, "notPaths", path),
    path,
  };
}
