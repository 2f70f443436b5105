/** Fuzz targets of the model's parsers: each takes any bytes and throws when an invariant breaks. */
import assert from "node:assert/strict";
import {
  authorize,
  cidrContains,
  compilePolicies,
  formatBaggage,
  formatCidr,
  formatForwarded,
  formatIp,
  formatSocketAddress,
  formatSpiffeId,
  MeshStore,
  parseAuthority,
  parseBaggage,
  parseCidr,
  parseForwarded,
  parseIp,
  parseMesh,
  parseSocketAddress,
  parseSpiffeId,
} from "../../src/mesh/mod.ts";
import type { FuzzTask, Random } from "../support/fuzz.ts";
import { pod } from "./builders.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Addresses and ranges: what is taken has one canonical text. */
function fuzzIp(bytes: Uint8Array): void {
  const given = text(bytes);
  const ip = parseIp(given);
  if (ip !== undefined) {
    assert.ok(ip.length === 4 || ip.length === 16);
    const canonical = formatIp(ip);
    assert.deepEqual(parseIp(canonical), ip);
    assert.equal(formatIp(parseIp(canonical)!), canonical);
  }
  const cidr = parseCidr(given);
  if (cidr === undefined) return;
  assert.ok(cidrContains(cidr, cidr.bytes));
  assert.deepEqual(parseCidr(formatCidr(cidr)), cidr);
}

function fuzzAuthority(bytes: Uint8Array): void {
  const given = text(bytes);
  const authority = parseAuthority(given);
  switch (authority.kind) {
    case "address": {
      assert.ok(authority.port > 0 && authority.port < 65_536);
      assert.deepEqual(parseAuthority(formatSocketAddress(authority)), authority);
      break;
    }
    case "hostname":
      assert.ok(authority.port > 0 && authority.port < 65_536 && /^[a-z0-9_.*-]{1,253}$/.test(authority.hostname));
      assert.deepEqual(parseAuthority(`${authority.hostname}:${authority.port}`), authority);
      break;
    case "invalid":
      assert.ok(authority.message.length < 1000);
  }
  const address = parseSocketAddress(given);
  if (address !== undefined) assert.deepEqual(parseSocketAddress(formatSocketAddress(address)), address);
}

function fuzzSpiffe(bytes: Uint8Array): void {
  const given = text(bytes);
  const parts = parseSpiffeId(given);
  if (parts !== undefined) assert.equal(formatSpiffeId(parts), given);
}

/** Whatever a peer says is bounded, and survives being said again. */
function fuzzBaggage(bytes: Uint8Array): void {
  const baggage = parseBaggage(text(bytes));
  for (const value of Object.values(baggage)) {
    // deno-lint-ignore no-control-regex
    assert.ok(value === undefined || (value.length > 0 && value.length <= 256 && !/[\x00-\x1f]/.test(value)));
  }
  const again = parseBaggage(formatBaggage(pod("x", [], {
    clusterId: baggage.clusterId,
    namespace: baggage.namespace ?? "",
    workloadName: baggage.workloadName ?? "",
    workloadType: baggage.workloadType ?? "",
    canonicalName: baggage.serviceName ?? "",
    canonicalRevision: baggage.serviceVersion ?? "",
    locality: { region: baggage.region ?? "", zone: baggage.zone ?? "", subzone: "" },
  })));
  assert.deepEqual(again, { ...baggage, clusterId: baggage.clusterId ?? "Kubernetes" });
}

function fuzzForwarded(bytes: Uint8Array): void {
  const read = parseForwarded(text(bytes));
  if (read.for === undefined) return;
  assert.deepEqual(parseForwarded(formatForwarded(read.for, read.host)), read);
}

/** What is taken can be stored, asked, and written and read again; what is refused says why. */
function fuzzParse(bytes: Uint8Array, random: Random): void {
  let value: unknown;
  try {
    value = JSON.parse(text(bytes));
  } catch {
    return;
  }
  checkParse(value);
  for (let i = 0; i < 4; i++) checkParse(disturbed(value, random));
}

const ODD_VALUES: readonly unknown[] = [null, "", 0, -1, 80, 65_536, 1e300, true, [], {}, "a/b", "10.0.0.1", "::/0", [
  [],
]];

/** A copy with about one node in ten replaced, dropped or renamed, as bytes alone would rarely do to JSON. */
function disturbed(value: unknown, random: Random): unknown {
  if (random.oneIn(20)) return ODD_VALUES[random.below(ODD_VALUES.length)];
  if (Array.isArray(value)) {
    return value.flatMap((entry) => random.oneIn(20) ? [entry, entry] : [disturbed(entry, random)]);
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).filter(() => !random.oneIn(20))
      .map(([name, entry]) => [random.oneIn(40) ? `${name}x` : name, disturbed(entry, random)]),
  );
}

function checkParse(value: unknown): void {
  const result = parseMesh(value);
  if (!result.ok) {
    assert.ok(result.errors.length > 0 && result.errors.every((error) => error.message !== ""));
    return;
  }
  assert.deepEqual(parseMesh(JSON.parse(JSON.stringify(result.resources))), result);
  const store = MeshStore.fromResources(result.resources);
  store.configDump();
  for (const workload of result.resources.workloads) {
    const { policies, missing } = store.policiesFor(workload);
    authorize(compilePolicies(policies, missing), {
      sourceIp: "10.0.0.1",
      sourceIdentity: undefined,
      destinationIp: "10.0.0.2",
      destinationPort: 80,
    });
  }
  store.replaceAll({ workloads: [], services: [], policies: [] });
  assert.deepEqual(store.resources(), { workloads: [], services: [], policies: [] });
}

const BY_CORPUS: Readonly<Record<string, (bytes: Uint8Array, random: Random) => void>> = {
  ip: fuzzIp,
  authority: fuzzAuthority,
  spiffe: fuzzSpiffe,
  baggage: fuzzBaggage,
  forwarded: fuzzForwarded,
  parse: fuzzParse,
};

/** What `deno task fuzz` and the test of all fuzz targets run. */
export const targets: readonly Omit<FuzzTask, "seconds" | "seed">[] = Object.entries(BY_CORPUS).map((
  [name, target],
) => ({ name: `mesh ${name}`, corpusDir: `tests/corpus/mesh/${name}`, maxBytes: 4096, target }));
