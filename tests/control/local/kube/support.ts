/** Reads Kubernetes documents of a text as a mesh file's reader does. */
import assert from "node:assert/strict";
import { FieldReader, type Fields } from "../../../../src/control/local/field_reader.ts";
import { type KubeObjects, readKubeObjects, ztunnelPolicies } from "../../../../src/control/local/kube/mod.ts";
import { readYamlDocuments } from "../../../../src/control/local/yaml_source.ts";

export interface Reading {
  readonly objects: KubeObjects;
  /** Of the ztunnels. */
  readonly policies: readonly Fields[];
  /** `line:column: message`, in the order of the lines. */
  readonly problems: readonly string[];
}

export function readText(text: string): Reading {
  const yaml = readYamlDocuments(text);
  if (!yaml.ok) throw new Error(JSON.stringify(yaml.problems));
  const reader = new FieldReader();
  const documents = yaml.documents.map(({ value }, index) => ({ value, path: ["documents", index] }));
  const objects = readKubeObjects(reader, documents);
  const policies = ztunnelPolicies(reader, objects.policies).map(({ fields }) => fields);
  const places = reader.problems.map(({ path: [first, index, ...path], message }) => {
    assert.equal(first, "documents");
    return yaml.documents[index as number]!.at(path, message);
  });
  places.sort((a, b) => a.line - b.line || a.column - b.column);
  return { objects, policies, problems: places.map(({ line, column, message }) => `${line}:${column}: ${message}`) };
}

/** What is in order as a whole. */
export function accept(text: string): Reading {
  const reading = readText(text);
  assert.deepEqual(reading.problems, []);
  return reading;
}

/** Without the places: those have tests of their own. */
export function withoutPaths(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPaths);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([key, child]) =>
    !(key === "where" || (key === "path" && Array.isArray(child)))
  );
  return Object.fromEntries(entries.map(([key, child]) => [key, withoutPaths(child)]));
}

/** A case of a table: a text, and everything that is wrong with it. */
export type Refused = readonly [name: string, text: string, ...problems: string[]];

export function expectRefused([name, text, ...problems]: Refused): void {
  assert.deepEqual(readText(text).problems, problems, name);
}

/** Lines of a document, indented so that a table of tests stays readable. */
export function object(apiVersion: string, kind: string, name: string, spec: string): string {
  return `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: { name: ${name} }\nspec:\n${indent(spec)}`;
}

function indent(lines: string): string {
  return lines.split("\n").map((line) => `  ${line}`).join("\n");
}
