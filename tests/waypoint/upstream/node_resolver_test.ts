import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type NameService, NodeResolver } from "../../../src/waypoint/upstream/node_resolver.ts";

function service(
  dns: Readonly<Record<string, readonly string[]>>,
  system: typeof dns = {},
): NameService & { asked: string[] } {
  const asked: string[] = [];
  const find = (from: typeof dns, kind: string, host: string, version: 4 | 6): readonly string[] => {
    asked.push(`${kind} ${host} ${version}`);
    const found = from[`${host} ${version}`];
    if (found === undefined) throw Object.assign(new Error("x"), { code: "ENOTFOUND" });
    return found;
  };
  return {
    asked,
    query: async (host, version) => find(dns, "dns", host, version).map((ip) => ({ ip, ttlSeconds: 7 })),
    lookup: async (host, version) => find(system, "system", host, version),
  };
}

describe("node resolver", () => {
  const BOTH = { "a 4": ["192.0.2.1", "192.0.2.2"], "a 6": ["2001:db8::1"], "four 4": ["192.0.2.4"] };
  const EXPECTED = [
    ["a", "v4", ["192.0.2.1", "192.0.2.2"]],
    ["a", "v6", ["2001:db8::1"]],
    ["a", "auto", ["2001:db8::1"]],
    ["a", "v4 preferred", ["192.0.2.1", "192.0.2.2"]],
    ["a", "all", ["2001:db8::1", "192.0.2.1", "192.0.2.2"]],
    ["four", "auto", ["192.0.2.4"]],
    ["four", "all", ["192.0.2.4"]],
  ] as const;
  for (const [host, family, ips] of EXPECTED) {
    test(`node resolver: ${host} by family ${family}`, async () => {
      const answer = await new NodeResolver(service(BOTH)).answer(host, family);
      assert.deepEqual(answer, { addresses: ips.map((ip) => ({ ip, ttlSeconds: 7 })) });
    });
  }

  test("node resolver: the hosts file knows what DNS does not, and who is not known is said", async () => {
    const resolver = new NodeResolver(service({}, { "local 4": ["127.0.0.1"] }));
    assert.deepEqual(await resolver.answer("local", "v4"), { addresses: [{ ip: "127.0.0.1", ttlSeconds: 30 }] });
    assert.deepEqual(await resolver.answer("nobody", "v4"), { failure: "nobody: no such name" });
  });

  test("node resolver: the same question twice is asked once", async () => {
    const names = service(BOTH);
    const resolver = new NodeResolver(names);
    const [one, two] = await Promise.all([resolver.answer("a", "v4"), resolver.answer("a", "v4")]);
    assert.equal(one, two);
    assert.deepEqual(names.asked, ["dns a 4"]);
    await resolver.answer("a", "v4");
    assert.equal(names.asked.length, 2);
  });

  test("node resolver: a name server that does not answer holds up neither the hosts file nor the failure", async () => {
    const tasks: { task: () => void; delayMs: number }[] = [];
    const schedule = (task: () => void, delayMs: number) => {
      const entry = { task, delayMs };
      tasks.push(entry);
      return () => void tasks.splice(tasks.indexOf(entry), 1);
    };
    const hosts = service({}, { "local 4": ["127.0.0.1"] });
    const silent: NameService = { query: () => new Promise(() => {}), lookup: hosts.lookup };
    const resolver = new NodeResolver(silent, schedule);
    const local = resolver.answer("local", "v4");
    const nobody = resolver.answer("nobody", "v4");
    assert.deepEqual(hosts.asked, []);
    for (const { task } of tasks.filter(({ delayMs }) => delayMs < 1_000)) task();
    assert.deepEqual(await local, { addresses: [{ ip: "127.0.0.1", ttlSeconds: 30 }] });
    for (const { task } of tasks.filter(({ delayMs }) => delayMs === 5_000)) task();
    assert.deepEqual(await nobody, { failure: "nobody: no such name" });
    assert.deepEqual(tasks, []);
  });

  test("node resolver: this machine's own name for itself", async () => {
    const answer = await new NodeResolver().answer("localhost", "v4");
    assert.ok(
      "addresses" in answer && answer.addresses.some(({ ip }) => ip.startsWith("127.")),
      JSON.stringify(answer),
    );
  });
});
