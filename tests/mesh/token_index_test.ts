import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { MeshStore } from "../../src/mesh/mod.ts";
import { TokenIndex } from "../../src/mesh/token_index.ts";
import { pod, policy, service } from "./builders.ts";
import { resources } from "./random_mesh.ts";

test("token_index: finds whoever holds a token of a change, and at most those of the same ip besides", () => {
  fc.assert(
    fc.property(resources, resources, (before, after) => {
      const store = MeshStore.fromResources(before);
      const tokens = new Set([
        ...MeshStore.fromResources(before).apply({ upsert: after }).tokens,
        "cidr",
        "wildcard",
        "w:x",
      ]);
      const index = new TokenIndex<string>();
      for (const token of tokens) index.add(token, token);
      const changes = store.replaceAll(after);
      const expected = [...changes.tokens].filter((token) => tokens.has(token));
      const found = index.concerned(changes);
      for (const token of expected) assert.ok(found.has(token), token);
      for (const token of found) {
        if (changes.tokens.has(token)) continue;
        const ip = token.slice(token.lastIndexOf("/"));
        assert.ok(token.startsWith("a:") && [...changes.tokens].some((other) => other.endsWith(ip)), token);
      }
    }),
    { numRuns: 300 },
  );
});

test("token_index: who has let go of a token is not found by it", () => {
  const index = new TokenIndex<string>();
  const store = new MeshStore();
  const change = () =>
    store.apply({
      upsert: {
        workloads: [pod("web", ["10.0.0.1"], { hostname: "h", capacity: Math.random() })],
        services: [service("*.x", ["10.96.0.1"], { hostname: "*.x", cidrVips: [{ network: "", cidr: "10.0.0.0/8" }] })],
        policies: [policy({ name: "p", namespace: "ns", scope: "Global", action: "Allow" })],
      },
    });
  const tokens = [
    "w:Kubernetes//Pod/default/web",
    "a:/10.0.0.1",
    "h:h",
    "wildcard",
    "cidr",
    "p:ns/p",
    "s:default/*.x",
    "a:/10.96.0.1",
  ];
  for (const token of tokens) {
    index.add(token, token);
    index.add(token, "all");
  }
  const first = store.apply({ remove: { workloads: [] } });
  assert.deepEqual(index.concerned(first), new Set());
  assert.deepEqual(index.concerned(change()), new Set([...tokens, "all"]));
  for (const token of tokens) index.delete(token, token);
  assert.deepEqual(index.concerned(change()), new Set(["all"]));
  for (const token of tokens) index.delete(token, "all");
  index.delete("w:never", "all");
  assert.deepEqual(index.concerned(change()), new Set());
});
