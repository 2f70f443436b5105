/** What holds for every object: no part of it is passed over, and nothing that stands in it makes the reader fall. */
import fc from "fast-check";
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { FieldReader } from "../../../../src/control/local/field_reader.ts";
import { readKubeObjects, ztunnelPolicies } from "../../../../src/control/local/kube/mod.ts";
import { readYamlDocuments, type SourcePath } from "../../../../src/control/local/yaml_source.ts";

const CORPUS = new URL("../../../corpus/kube_objects/", import.meta.url);

/** Every document of the kept corpus. */
const DOCUMENTS: readonly unknown[] = readdirSync(CORPUS).sort().flatMap((name) => {
  const yaml = readYamlDocuments(readFileSync(new URL(name, CORPUS), "utf8"));
  return yaml.ok ? yaml.documents.map(({ value }) => value) : [];
});

function problemsOf(value: unknown): readonly SourcePath[] {
  const reader = new FieldReader();
  ztunnelPolicies(reader, readKubeObjects(reader, [{ value, path: [] }]).policies);
  return reader.problems.map(({ path }) => path);
}

/** The paths of all parts, itself included. */
function pathsOf(value: unknown, path: SourcePath = []): readonly SourcePath[] {
  if (typeof value !== "object" || value === null) return [path];
  const children = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return [path, ...children.flatMap(([key, child]) => pathsOf(child, [...path, key]))];
}

function at(value: unknown, path: SourcePath): unknown {
  return path.reduce((part, key) => (part as Record<string | number, unknown>)[key], value);
}

function replaced(value: unknown, path: SourcePath, part: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return part;
  if (Array.isArray(value)) {
    return value.map((child: unknown, index) => index === key ? replaced(child, rest, part) : child);
  }
  const fields = value as Record<string, unknown>;
  return { ...fields, [key]: replaced(fields[key], rest, part) };
}

/** What an API server prints, and what is free text. */
const IGNORED: readonly unknown[] = ["status", "managedFields", "annotations", "labels", "matchLabels", "finalizers"];

function isMetadataOfList(document: unknown, path: SourcePath): boolean {
  return at(document, ["kind"]) === "List" && path[0] === "metadata";
}

test("kube objects: the kept corpus is in order", () => {
  assert.ok(DOCUMENTS.length >= 12);
  for (const document of DOCUMENTS) assert.deepEqual(problemsOf(document), []);
});

test("kube objects: a key that nobody knows is told, wherever it stands", () => {
  for (const document of DOCUMENTS) {
    for (const path of pathsOf(document)) {
      const part = at(document, path);
      if (typeof part !== "object" || part === null || Array.isArray(part)) continue;
      if (path.some((key) => IGNORED.includes(key)) || isMetadataOfList(document, path)) continue;
      const problems = problemsOf(replaced(document, path, { ...part, unheardOf: 1 }));
      assert.deepEqual(problems, [[...path, "unheardOf"]], path.join("."));
    }
  }
});

test("kube objects: a part that is emptied is told, wherever it stands", () => {
  const missed: string[] = [];
  for (const document of DOCUMENTS) {
    for (const path of pathsOf(document)) {
      // Values of free text, and a List's and a printed object's own metadata.
      if (path.some((key) => IGNORED.includes(key)) || !path.includes("spec")) continue;
      const problems = problemsOf(replaced(document, path, null));
      if (problems.length === 0) missed.push(path.join("."));
    }
  }
  assert.deepEqual(missed, []);
});

test("kube objects: whatever stands in place of a part, the answer is objects or problems", () => {
  const cases = DOCUMENTS.flatMap((document) => pathsOf(document).map((path) => [document, path] as const));
  const part = fc.oneof(fc.jsonValue(), fc.constantFrom("*", "a*", "/", "{*}", "10.0.0.0/8", "GET", 0, -1, 1e99, "1s"));
  fc.assert(
    fc.property(fc.constantFrom(...cases), part, ([document, path], value) => {
      for (const place of problemsOf(replaced(document, path, value))) {
        assert.ok(place.every((key) => typeof key === "string" || typeof key === "number"));
      }
    }),
    { numRuns: 2000 },
  );
});
