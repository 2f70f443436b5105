/** Fuzz target of the Kubernetes objects in a mesh file. */
import assert from "node:assert/strict";
import { FieldReader } from "../../../../src/control/local/field_reader.ts";
import { type KubeObjects, readKubeObjects, ztunnelPolicies } from "../../../../src/control/local/kube/mod.ts";
import { readYamlDocuments } from "../../../../src/control/local/yaml_source.ts";
import { parseMesh } from "../../../../src/mesh/parse.ts";

const decoder = new TextDecoder();

/** Objects that can be compiled, or problems with places in the text. */
function fuzzKubeObjects(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  const yaml = readYamlDocuments(text);
  if (!yaml.ok) return assert.ok(yaml.problems.length > 0);
  const reader = new FieldReader();
  const documents = yaml.documents.map(({ value }, index) => ({ value, path: ["documents", index] }));
  const objects = readKubeObjects(reader, documents);
  const policies = ztunnelPolicies(reader, objects.policies).map(({ fields }) => fields);
  if (reader.problems.length === 0) {
    checkObjects(objects);
    // With the scope that a selector implies.
    const entries = policies.map(({ selector: _, ...policy }) => ({ scope: "WorkloadSelector", ...policy }));
    const parsed = parseMesh({ policies: entries });
    assert.ok(parsed.ok, JSON.stringify(parsed));
  }
  const lines = text.split(/\r\n|\n|\r/).length;
  for (const { path: [first, index, ...path], message } of reader.problems) {
    assert.equal(first, "documents");
    const { line, column } = yaml.documents[index as number]!.at(path, message);
    assert.ok(line >= 1 && line <= lines + 1 && column >= 1, `${line}:${column}`);
  }
}

/** What a compiler of routes and policies relies on. */
function checkObjects({ gateways, routes, policies, authentications }: KubeObjects): void {
  for (const { name, namespace } of [...gateways, ...routes, ...policies, ...authentications]) {
    assert.match(`${namespace}/${name}`, /^[-a-z0-9.]+\/[-a-z0-9.]+$/);
  }
  for (const { namespace, parents, rules } of routes) {
    assert.ok(parents.length > 0 && rules.length > 0);
    assert.ok(parents.every((parent) => parent.namespace === namespace));
    for (const { matches, backends, filters } of rules) {
      assert.ok(matches.length > 0);
      const refs = [...backends.map(({ ref }) => ref), ...filters.mirrors.map(({ backend }) => backend)];
      assert.ok(refs.every(({ name, port }) => name !== "" && port !== undefined));
    }
  }
  for (const { rules } of policies) {
    for (const part of rules.flatMap(({ from, to }) => [...from, ...to])) {
      // One that says nothing would hold for everybody.
      assert.ok(Object.entries(part).some(([key, values]) => key !== "path" && values.length > 0));
    }
  }
}

export const targets = [
  { name: "kube objects", corpusDir: "tests/corpus/kube_objects", target: fuzzKubeObjects, maxBytes: 4096 },
];
