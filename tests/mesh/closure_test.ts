import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  closureFor,
  closureForHostname,
  closureForWorkload,
  type Inbound,
  inboundService,
  type MeshResources,
  MeshStore,
  type Outbound,
  resolveInbound,
  resolveOutbound,
  type SocketAddress,
  type Workload,
} from "../../src/mesh/mod.ts";
import { endpointOf, gateway, mesh, pod, sequence, service } from "./builders.ts";
import {
  clientWorkload,
  destination,
  hostnames,
  ips,
  resources,
  service as anyService,
  workload,
} from "./random_mesh.ts";

/** What it takes to see every outcome of up to three random choices among few. */
const CHANCES = [0, 0.3, 0.6, 0.95];

/** Every decision that chance allows for, as data. */
function decisions(store: MeshStore, target: SocketAddress, client: Workload, clientIp: string): string[] {
  const found: string[] = [];
  for (const first of CHANCES) {
    for (const second of CHANCES) {
      for (const third of CHANCES) {
        const outbound = resolveOutbound(
          store,
          { network: "", target, client: { workload: client, ip: clientIp }, ipv6Enabled: true },
          sequence(first, second, third),
        );
        found.push(asData(outbound));
      }
    }
  }
  return found;
}

function asData(outbound: Outbound): string {
  return JSON.stringify(
    outbound.kind === "needsDns" ? { ...outbound, then: outbound.withAddress("192.0.2.1") } : outbound,
  );
}

function inboundFor(store: MeshStore, ip: string, local: Workload): Inbound {
  return resolveInbound(store, {
    authority: { kind: "address", ip, port: 80 },
    network: "",
    localIp: local.workloadIps[0] ?? "10.0.0.250",
    workload: local,
    illegalPorts: [15008],
    localhostAppTunnel: true,
  });
}

/** What the main thread sends to a worker. */
function cutOut(closure: { readonly resources: MeshResources }): MeshStore {
  return MeshStore.fromResources(structuredClone(closure.resources));
}

const change = fc.oneof(
  workload.map((found) => ({ upsert: { workloads: [found] } })),
  anyService.map((found) => ({ upsert: { services: [found] } })),
  workload.map((found) => ({ remove: { workloads: [found.uid] } })),
  anyService.map((found) => ({ remove: { services: [`${found.namespace}/${found.hostname}`] } })),
) as fc.Arbitrary<Parameters<MeshStore["apply"]>[0]>;

const runs = { numRuns: 2000 };

test("closure: decides about outbound connections as the whole mesh does", () => {
  fc.assert(
    fc.property(resources, destination, clientWorkload, ips, (whole, target, client, clientIp) => {
      const store = MeshStore.fromResources(whole);
      const part = cutOut(closureFor(store, "", target.ip, client.namespace));
      assert.deepEqual(decisions(part, target, client, clientIp), decisions(store, target, client, clientIp));
    }),
    runs,
  );
});

test("closure: a change that alters an outbound decision has one of its tokens", () => {
  fc.assert(
    fc.property(resources, destination, clientWorkload, ips, change, (whole, target, client, clientIp, next) => {
      const store = MeshStore.fromResources(whole);
      const tokens = closureFor(store, "", target.ip, client.namespace).tokens;
      const before = decisions(store, target, client, clientIp);
      const changed = store.apply(next).tokens;
      if (tokens.some((token) => changed.has(token))) return;
      assert.deepEqual(decisions(store, target, client, clientIp), before);
    }),
    runs,
  );
});

test("closure: decides about inbound requests for an ip as the whole mesh does, and has a token for what alters that", () => {
  fc.assert(
    fc.property(resources, ips, workload, change, (whole, ip, local, next) => {
      const store = MeshStore.fromResources(whole);
      const closure = closureFor(store, "", ip);
      const before = JSON.stringify(inboundFor(store, ip, local));
      assert.equal(JSON.stringify(inboundFor(cutOut(closure), ip, local)), before);
      const changed = store.apply(next).tokens;
      if (closure.tokens.some((token) => changed.has(token))) return;
      assert.equal(JSON.stringify(inboundFor(store, ip, local)), before);
    }),
    runs,
  );
});

test("closure: decides about inbound requests for a hostname, and names services, as the whole mesh does", () => {
  fc.assert(
    fc.property(resources, hostnames, fc.nat(7), change, (whole, hostname, index, next) => {
      const store = MeshStore.fromResources(whole);
      const local = whole.workloads[index % Math.max(whole.workloads.length, 1)];
      if (local === undefined) return;
      const ask = (view: MeshStore) =>
        JSON.stringify(resolveInbound(view, {
          authority: { kind: "hostname", hostname, port: 80 },
          network: "",
          localIp: "10.0.0.250",
          workload: local,
          illegalPorts: [15008],
          localhostAppTunnel: false,
        }));
      const name = (view: MeshStore) => inboundService(view, local, 8080, hostname)?.hostname;
      const byHostname = closureForHostname(store, hostname, local);
      const byWorkload = closureForWorkload(store, local);
      const before = [ask(store), name(store)];
      assert.deepEqual([ask(cutOut(byHostname)), name(cutOut(byWorkload))], before);
      const changed = store.apply(next).tokens;
      const current = store.workloadByUid(local.uid);
      if (current !== local || [...byHostname.tokens, ...byWorkload.tokens].some((token) => changed.has(token))) return;
      assert.deepEqual([ask(store), name(store)], before);
    }),
    runs,
  );
});

test("closure: holds nothing that the destination does not need", () => {
  const store = mesh([
    pod("backend", ["10.0.0.2"], endpointOf("one")),
    pod("waypoint", ["10.0.0.3"], endpointOf("waypoint")),
    pod("other", ["10.0.0.4"], endpointOf("other")),
  ], [
    service("one", ["10.1.0.1"], { waypoint: gateway("default/waypoint.default.svc") }),
    service("waypoint", ["10.1.0.2"], { ports: { 15008: 15008 } }),
    service("other", ["10.1.0.3"]),
  ]);
  const closure = closureFor(store, "", "10.1.0.1", "default");
  assert.deepEqual(closure.resources.workloads.map((found) => found.name).sort(), ["backend", "waypoint"]);
  assert.deepEqual(closure.resources.services.map((found) => found.name).sort(), ["one", "waypoint"]);
  assert.deepEqual(closure.resources.policies, []);
  assert.deepEqual(closure.tokens.sort(), [
    "a:/10.1.0.1",
    "h:waypoint.default.svc",
    "s:default/one.default.svc",
    "s:default/waypoint.default.svc",
  ]);
});

test("closure: of an unknown destination is empty and waits for the ip and for ranges", () => {
  const closure = closureFor(mesh([pod("web", ["10.0.0.2"])]), "", "8.8.8.8", "default");
  assert.deepEqual(closure, {
    resources: { workloads: [], services: [], policies: [] },
    tokens: ["a:/8.8.8.8", "cidr"],
  });
});
