/** `when` of an AuthorizationPolicy: conditions on the attributes of Istio's table. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { PolicyCondition } from "./objects.ts";
import { readPatterns, readPorts, readRanges, readServiceAccounts, readTexts } from "./policy_values.ts";

type ReadValues = (reader: FieldReader, fields: Fields, key: string, path: SourcePath) => readonly string[];

const ATTRIBUTES: ReadonlyMap<string, ReadValues> = new Map([
  ["source.ip", readRanges],
  ["remote.ip", readRanges],
  ["source.namespace", readPatterns],
  ["source.principal", readPatterns],
  ["source.serviceAccount", readServiceAccounts],
  ["destination.ip", readRanges],
  ["destination.port", readPorts],
  ["connection.sni", readPatterns],
  ["request.auth.principal", readPatterns],
  ["request.auth.audiences", readTexts],
  ["request.auth.presenter", readTexts],
]);
const HEADER = /^request\.headers\[[A-Za-z0-9!#$%&'*+\-.^_`|~]+\]$/;
const CLAIM = /^request\.auth\.claims(\[[^[\]]+\])+$/;
const KNOWN = [...ATTRIBUTES.keys(), "request.headers[NAME]", "request.auth.claims[NAME]"].join(", ");

export function readCondition(reader: FieldReader, fields: Fields, path: SourcePath): PolicyCondition {
  reader.onlyKnown(fields, ["key", "values", "notValues"], path);
  const key = reader.requiredText(fields, "key", path);
  const read = readerOf(key);
  if (read === undefined && key !== "") {
    const hint = key === "source.trustDomain"
      ? `write source.principal with the value "TRUST-DOMAIN/*"`
      : `known are ${KNOWN}`;
    reader.fail([...path, "key"], `the condition ${JSON.stringify(key)} is not supported by ambit local; ${hint}`);
  }
  if (fields.values === undefined && fields.notValues === undefined) {
    reader.fail(path, "a condition needs values or notValues");
  }
  const values = (list: "values" | "notValues") => (read ?? readTexts)(reader, fields, list, path);
  // What was refused once is not looked at again.
  return { key: read === undefined ? "" : key, values: values("values"), notValues: values("notValues"), path };
}

function readerOf(key: string): ReadValues | undefined {
  // Values of headers and claims are free text: a "*" in the middle is one.
  return ATTRIBUTES.get(key) ?? (HEADER.test(key) || CLAIM.test(key) ? readTexts : undefined);
}
