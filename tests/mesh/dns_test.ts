/** What names mean to a client in namespace ns1 of network nw1, as ztunnel's own table of lookups has it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { closureForName } from "../../src/mesh/dns_closure.ts";
import {
  addressesOf,
  type AddressFamily,
  dnsAliases,
  type DnsScope,
  findByName,
  kubernetesNames,
  kubernetesSearch,
  wildcardsOf,
} from "../../src/mesh/dns.ts";
import {
  createService,
  createWorkload,
  MeshStore,
  type NetworkAddress,
  type Service,
  type Workload,
} from "../../src/mesh/mod.ts";

const SCOPE: DnsScope = {
  namespace: "ns1",
  clusterDomain: "cluster.local",
  search: undefined,
  preferredNamespace: "preferred-ns",
};

function external(hostname: string, vips: readonly string[], fields: Partial<Service> = {}): Service {
  return createService({
    name: hostname,
    namespace: "ns1",
    hostname,
    vips: vips.map((vip) => (vip.includes("/") ? vip : `nw1/${vip}`) as NetworkAddress),
    ...fields,
  });
}

function kubernetes(name: string, namespace: string, vips: readonly string[], fields: Partial<Service> = {}): Service {
  return external(`${name}.${namespace}.svc.cluster.local`, vips, { name, namespace, ...fields });
}

function endpoint(name: string, service: string, ips: readonly string[], fields: Partial<Workload> = {}): Workload {
  return createWorkload({
    name,
    namespace: "ns1",
    network: "nw1",
    workloadIps: ips,
    services: { [`ns1/${service}`]: { 80: 80 } },
    ...fields,
  });
}

const HEADLESS = "headless.ns1.svc.cluster.local";
const SERVICES = [
  external("www.google.com", ["1.1.1.1"]),
  kubernetes("productpage", "ns1", ["9.9.9.9"]),
  kubernetes("example", "ns2", ["10.10.10.10"]),
  external("everywhere.io", ["10.10.10.110"], { namespace: "ns2" }),
  external("everywhere.io", ["10.10.10.111"], { namespace: "preferred-ns" }),
  external("everywhere.io", ["10.10.10.112"]),
  external("preferred.io", ["10.10.10.210"], { namespace: "ns2" }),
  external("preferred.io", ["10.10.10.211"], { namespace: "preferred-ns" }),
  external("canonical.svc", ["10.10.10.140"], { namespace: "ns2" }),
  external("canonical.svc", ["10.10.10.141"], { namespace: "ns3", canonical: true }),
  external("canonical.with.local", ["10.10.10.150"]),
  external("canonical.with.local", ["10.10.10.151"], { namespace: "ns2", canonical: true }),
  external("details.ns2.svc.cluster.remote", ["11.11.11.11", "12.12.12.12", "13.13.13.13"], { namespace: "ns2" }),
  external("ipv4.localhost", ["2.2.2.2"]),
  external("ipv6.localhost", ["2001:db8::1"]),
  external("dual.localhost", ["2.2.2.2", "2001:db8::1"]),
  external("*.wildcard", ["10.10.10.10"]),
  external("*.b.wildcard", ["11.11.11.11"]),
  external("*.svc.mesh.company.net", ["10.1.2.3"]),
  kubernetes("nw2-only", "ns1", ["nw2/20.20.20.20"]),
  kubernetes("both-networks", "ns1", ["nw1/21.21.21.21", "nw2/22.22.22.22"]),
  kubernetes("headless", "ns1", []),
  kubernetes("headless-ipv6", "ns1", [], { ipFamilies: "IPv6" }),
  kubernetes("single-stack", "ns1", ["23.23.23.23", "2001:db8::23"], { ipFamilies: "IPv4" }),
  kubernetes("hidden", "ns2", ["24.24.24.24"], { visibility: "Namespace" }),
  kubernetes("ranged", "ns1", [], { cidrVips: [{ network: "nw1", cidr: "25.0.0.0/8" }] }),
  external("headless.example.com", []),
  external("partly.hidden", ["26.26.26.26"], { namespace: "ns2", visibility: "Namespace" }),
  external("partly.hidden", ["27.27.27.27"], { namespace: "ns3" }),
];
const WORKLOADS = [
  endpoint("pod-0", HEADLESS, ["30.30.30.30", "2001:db8::30"]),
  endpoint("pod-1", HEADLESS, ["31.31.31.31", "31.31.31.32", "2001:db8::31"]),
  endpoint("pod-far", HEADLESS, ["32.32.32.32"], { network: "nw2" }),
  endpoint("pod-ill", HEADLESS, ["33.33.33.33"], { status: "Unhealthy" }),
  endpoint("pod-six", "headless-ipv6.ns1.svc.cluster.local", ["34.34.34.34", "2001:db8::34"]),
  endpoint("outside", "headless.example.com", ["35.35.35.35"]),
];
const STORE = MeshStore.fromResources({ workloads: WORKLOADS, services: SERVICES, policies: [] });

interface Case {
  readonly what: string;
  readonly name: string;
  readonly family?: AddressFamily;
  /** Undefined: the mesh does not know the name. */
  readonly addresses: readonly string[] | undefined;
  /** Where the answer's owner is another name: the requested one without its search domain. */
  readonly stripped?: string;
  readonly wildcard?: true;
  readonly scope?: Partial<DnsScope>;
}

const NS1_SEARCH = "ns1.svc.cluster.local";
const CASES: readonly Case[] = [
  { what: "an external service", name: "www.google.com", addresses: ["1.1.1.1"] },
  {
    what: "an external service behind a search domain",
    name: `www.google.com.${NS1_SEARCH}`,
    addresses: ["1.1.1.1"],
    stripped: "www.google.com",
  },
  { what: "a name outside the mesh", name: "www.bing.com", addresses: undefined },
  { what: "a full Kubernetes name", name: `productpage.${NS1_SEARCH}`, addresses: ["9.9.9.9"] },
  { what: "service.namespace", name: "productpage.ns1", addresses: ["9.9.9.9"] },
  { what: "service.namespace.svc", name: "productpage.ns1.svc", addresses: ["9.9.9.9"] },
  { what: "the bare service", name: "productpage", addresses: ["9.9.9.9"] },
  {
    what: "service.namespace behind a search domain",
    name: `productpage.ns1.${NS1_SEARCH}`,
    addresses: ["9.9.9.9"],
    stripped: "productpage.ns1",
  },
  {
    what: "service.namespace.svc behind the domain of the cluster",
    name: "productpage.ns1.svc.svc.cluster.local",
    addresses: ["9.9.9.9"],
    stripped: "productpage.ns1.svc",
  },
  {
    what: "no address of the family: the name exists all the same",
    name: `productpage.ns1.${NS1_SEARCH}`,
    family: "ipv6",
    addresses: [],
    stripped: "productpage.ns1",
  },
  { what: "another namespace, service.namespace", name: "example.ns2", addresses: ["10.10.10.10"] },
  { what: "another namespace, service.namespace.svc", name: "example.ns2.svc", addresses: ["10.10.10.10"] },
  { what: "another namespace, in full", name: "example.ns2.svc.cluster.local", addresses: ["10.10.10.10"] },
  { what: "another namespace, bare", name: "example", addresses: undefined },
  {
    what: "another cluster's domain, in full",
    name: "details.ns2.svc.cluster.remote",
    addresses: ["11.11.11.11", "12.12.12.12", "13.13.13.13"],
  },
  { what: "another cluster's domain, shortened", name: "details.ns2", addresses: undefined },
  { what: "both families, IPv4", name: "dual.localhost", addresses: ["2.2.2.2"] },
  { what: "both families, IPv6", name: "dual.localhost", family: "ipv6", addresses: ["2001:db8::1"] },
  { what: "IPv6 only, IPv4 asked", name: "ipv6.localhost", addresses: [] },
  { what: "IPv4 only, IPv6 asked", name: "ipv4.localhost", family: "ipv6", addresses: [] },
  { what: "ipFamilies forbids what the VIPs have", name: `single-stack.${NS1_SEARCH}`, family: "ipv6", addresses: [] },
  { what: "a wildcard", name: "foo.wildcard", addresses: ["10.10.10.10"], wildcard: true },
  { what: "the longer of two wildcards", name: "a.b.wildcard", addresses: ["11.11.11.11"], wildcard: true },
  { what: "a wildcard does not match its own domain", name: "wildcard", addresses: undefined },
  { what: "a wildcard with a domain", name: "foo.svc.mesh.company.net", addresses: ["10.1.2.3"], wildcard: true },
  {
    what: "a wildcard over two labels",
    name: "foo.foons.svc.mesh.company.net",
    addresses: ["10.1.2.3"],
    wildcard: true,
  },
  {
    what: "a wildcard behind a search domain",
    name: `foo.svc.mesh.company.net.${NS1_SEARCH}`,
    addresses: ["10.1.2.3"],
    wildcard: true,
    stripped: "foo.svc.mesh.company.net",
  },
  { what: "no VIP in the client's network", name: `nw2-only.${NS1_SEARCH}`, addresses: [] },
  { what: "only the VIP of the client's network", name: `both-networks.${NS1_SEARCH}`, addresses: ["21.21.21.21"] },
  {
    what: "headless: one address of each healthy pod in the client's network",
    name: HEADLESS,
    addresses: ["30.30.30.30", "31.31.31.31"],
  },
  { what: "headless, IPv6", name: HEADLESS, family: "ipv6", addresses: ["2001:db8::30", "2001:db8::31"] },
  { what: "headless, IPv6 only", name: `headless-ipv6.${NS1_SEARCH}`, family: "ipv6", addresses: ["2001:db8::34"] },
  { what: "headless, IPv6 only, IPv4 asked", name: `headless-ipv6.${NS1_SEARCH}`, addresses: [] },
  { what: "headless outside the cluster's domain", name: "headless.example.com", addresses: undefined },
  { what: "ranges are no addresses", name: `ranged.${NS1_SEARCH}`, addresses: [] },
  {
    what: "a pod of a headless service, in full",
    name: `pod-1.${HEADLESS}`,
    addresses: ["31.31.31.31", "31.31.31.32"],
  },
  { what: "a pod of a headless service, pod.service", name: "pod-0.headless", addresses: ["30.30.30.30"] },
  {
    what: "a pod of a headless service, pod.service.namespace",
    name: "pod-0.headless.ns1",
    addresses: ["30.30.30.30"],
  },
  { what: "a pod of a headless service, .svc", name: "pod-0.headless.ns1.svc", addresses: ["30.30.30.30"] },
  { what: "a pod that the headless service does not have", name: `pod-9.${HEADLESS}`, addresses: undefined },
  { what: "a pod of a service that is not headless", name: `x.productpage.${NS1_SEARCH}`, addresses: undefined },
  { what: "the client's namespace before all others", name: "everywhere.io", addresses: ["10.10.10.112"] },
  { what: "the preferred namespace before others", name: "preferred.io", addresses: ["10.10.10.211"] },
  { what: "the canonical one before others", name: "canonical.svc", addresses: ["10.10.10.141"] },
  {
    what: "the client's namespace before the canonical one",
    name: "canonical.with.local",
    addresses: ["10.10.10.150"],
  },
  { what: "a service that is not visible", name: "hidden.ns2.svc.cluster.local", addresses: undefined },
  {
    what: "a service that is visible in its namespace",
    name: "hidden.ns2.svc.cluster.local",
    addresses: ["24.24.24.24"],
    scope: { namespace: "ns2" },
  },
  { what: "the visible one of two", name: "partly.hidden", addresses: ["27.27.27.27"] },
  { what: "the root", name: "", addresses: undefined },
  { what: "a name with an escape", name: "a\\.b.wildcard", addresses: undefined },
  {
    what: "a search domain that the resolver's own file names",
    name: "www.google.com.corp.example",
    addresses: ["1.1.1.1"],
    stripped: "www.google.com",
    scope: { search: ["corp.example"] },
  },
  {
    what: "no search domain but those",
    name: `www.google.com.${NS1_SEARCH}`,
    addresses: undefined,
    scope: { search: ["corp.example"] },
  },
];

for (const { what, name, family = "ipv4", addresses, stripped, wildcard, scope } of CASES) {
  test(`dns lookup: ${what}`, () => {
    const full = { ...SCOPE, ...scope };
    for (const view of [STORE, MeshStore.fromResources(closureForName(STORE, name, full).resources)]) {
      const match = findByName(view, name, full);
      if (addresses === undefined) return assert.equal(match, undefined);
      assert.notEqual(match, undefined);
      assert.deepEqual([...addressesOf(view, match!, "nw1", family)].sort(), [...addresses].sort());
      assert.equal(match!.alias.stripped, stripped);
      assert.equal(match!.kind === "service" && match!.wildcard, wildcard ?? false);
    }
  });
}

test("dns lookup: the names that a short one may stand for", () => {
  const names = (name: string) => kubernetesNames(name, SCOPE);
  assert.deepEqual(names("name"), ["name.ns1.svc.cluster.local"]);
  assert.deepEqual(names("name.ns2"), ["name.ns2.svc.cluster.local", "name.ns2.ns1.svc.cluster.local"]);
  assert.deepEqual(names("name.ns2.svc"), ["name.ns2.svc.cluster.local", "name.ns2.svc.svc.cluster.local"]);
  assert.deepEqual(names("name.ns2.not"), ["name.ns2.not.svc.cluster.local"]);
  assert.deepEqual(names("pod.name.ns2.svc"), ["pod.name.ns2.svc.cluster.local"]);
  assert.deepEqual(names("pod.name.ns2.not"), []);
  assert.deepEqual(names("name.ns2.svc.cluster.local"), []);
  assert.deepEqual(names(""), []);
});

test("dns lookup: wildcards from the longest", () => {
  assert.deepEqual(wildcardsOf("a.b.c"), ["*.b.c", "*.c"]);
  assert.deepEqual(wildcardsOf("a"), []);
});

test("dns lookup: aliases are tried in order, none twice", () => {
  const aliases = dnsAliases(`shop.ns2.${NS1_SEARCH}`, SCOPE);
  assert.deepEqual(
    aliases.map(({ name }) => name),
    [
      "shop.ns2.ns1.svc.cluster.local",
      "shop.ns2",
      "shop.ns2.svc.cluster.local",
      "shop.ns2.ns1",
      "shop.ns2.ns1.svc",
      "shop.ns2.ns1.svc.svc.cluster.local",
    ].filter((name) => aliases.some((alias) => alias.name === name)),
  );
  assert.equal(new Set(aliases.map(({ name }) => name)).size, aliases.length);
  assert.deepEqual(kubernetesSearch("ns1", "cluster.local"), [NS1_SEARCH, "svc.cluster.local", "cluster.local"]);
});

/** Whether an answer holds is told by tokens: a change that alters it must touch one of them. */
test("dns closure: whatever changes an answer reports one of its tokens", () => {
  const names = fc.constantFrom(
    ...CASES.map(({ name }) => name),
    "new.example",
    "a.new.example",
    "pod-9.headless.ns1.svc.cluster.local",
  );
  const change = fc.oneof(
    fc.constantFrom(...SERVICES).map((service) => ({
      remove: { services: [`${service.namespace}/${service.hostname}`] },
    })),
    fc.constantFrom(...SERVICES).map((service) => ({
      upsert: { services: [{ ...service, canonical: !service.canonical }] },
    })),
    fc.constantFrom(...SERVICES).map((service) => ({ upsert: { services: [{ ...service, vips: ["nw1/99.0.0.1"] }] } })),
    fc.constantFrom(...WORKLOADS).map((workload) => ({ remove: { workloads: [workload.uid] } })),
    fc.constantFrom(...WORKLOADS).map((workload) => ({
      upsert: { workloads: [{ ...workload, workloadIps: ["99.0.0.2"] }] },
    })),
    fc.constantFrom("new.example", "*.new.example", "*.example", "*.local", "shop.ns2.svc.cluster.local")
      .map((hostname) => ({ upsert: { services: [external(hostname, ["99.0.0.3"])] } })),
    fc.constant({ upsert: { workloads: [endpoint("pod-9", HEADLESS, ["99.0.0.4"])] } }),
  );
  fc.assert(
    fc.property(names, change, (name, delta) => {
      const store = MeshStore.fromResources({ workloads: WORKLOADS, services: SERVICES, policies: [] });
      const describe = () => {
        const match = findByName(store, name, SCOPE);
        return match && [
          match.alias,
          match.service.hostname,
          addressesOf(store, match, "nw1", "ipv4"),
          addressesOf(store, match, "nw1", "ipv6"),
        ];
      };
      const before = describe();
      const { tokens } = closureForName(store, name, SCOPE);
      const changed = store.apply(delta as Parameters<MeshStore["apply"]>[0]).tokens;
      if (JSON.stringify(describe()) === JSON.stringify(before)) return;
      assert.ok(tokens.some((token) => changed.has(token)), `${name}: ${[...changed].join(" ")}`);
    }),
    { numRuns: 500 },
  );
});

test("dns closure: endpoints of a service with addresses of its own do not matter", () => {
  const { tokens } = closureForName(STORE, `productpage.${NS1_SEARCH}`, SCOPE);
  assert.deepEqual(tokens, [`h:productpage.${NS1_SEARCH}`]);
});

test("dns closure: a name of many labels costs few tokens", () => {
  const { tokens } = closureForName(STORE, `${"a.".repeat(120)}example`, SCOPE);
  assert.ok(tokens.length < 8, tokens.join(" "));
});
