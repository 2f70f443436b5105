import assert from "node:assert/strict";
import { test } from "node:test";
import { corpusPath } from "../../../scripts/fuzz.ts";
import { parseHosts, parseResolvConf, SystemFiles } from "../../../src/ztunnel/dns/system_files.ts";
import { runFuzz } from "../../support/fuzz.ts";
import { targets } from "./fuzz.ts";

test("resolv.conf: servers, search domains and ndots", () => {
  assert.deepEqual(
    parseResolvConf(`# made by kubelet
nameserver 10.96.0.10
nameserver   FD00::A   ; second
nameserver fe80::1%eth0
nameserver nonsense
search Town.svc.cluster.local. svc.cluster.local  a..b
options timeout:2 ndots:5 edns0
`),
    {
      servers: ["10.96.0.10", "fd00::a"],
      search: ["town.svc.cluster.local", "svc.cluster.local"],
      ndots: 5,
    },
  );
});

test("resolv.conf: the last search or domain line counts, three servers and fifteen dots at most", () => {
  const { servers, search, ndots } = parseResolvConf(
    "search a b\ndomain c\noptions ndots:99\n" + [1, 2, 3, 4].map((n) => `nameserver 10.0.0.${n}\n`).join(""),
  );
  assert.deepEqual([servers, search, ndots], [["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["c"], 15]);
  assert.deepEqual(parseResolvConf(""), { servers: [], search: [], ndots: 1 });
});

test("hosts: names in any case, several addresses of one name", () => {
  const hosts = parseHosts(
    "127.0.0.1\tlocalhost\n::1 LocalHost. ip6-localhost # six\n10.0.0.1 shop shop.town\nx y\n#1.2.3.4 no\n10.0.0.1 shop",
  );
  assert.deepEqual([...hosts], [
    ["localhost", ["127.0.0.1", "::1"]],
    ["ip6-localhost", ["::1"]],
    ["shop", ["10.0.0.1"]],
    ["shop.town", ["10.0.0.1"]],
  ]);
});

test("system files: read again when they changed, but not looked at all the time", () => {
  const contents: Record<string, string | undefined> = { "/etc/resolv.conf": "nameserver 10.0.0.1" };
  let looks = 0;
  let nowMs = 0;
  const subject = new SystemFiles(() => nowMs, {
    version: (path) => (looks++, contents[path]),
    read: (path) => contents[path]!,
  });
  const servers = () => subject.resolvConf.servers;
  assert.deepEqual(servers(), ["10.0.0.1"]);
  contents["/etc/resolv.conf"] = "nameserver 10.0.0.2";
  assert.deepEqual(servers(), ["10.0.0.1"]);
  assert.equal(looks, 1);
  nowMs = 5_000;
  assert.deepEqual(servers(), ["10.0.0.2"]);
  contents["/etc/resolv.conf"] = undefined;
  nowMs = 10_000;
  assert.deepEqual(servers(), []);
});

test("system files: one that cannot be read counts as empty", () => {
  const subject = new SystemFiles(() => 0, {
    version() {
      throw new Error("EACCES");
    },
    read: () => "",
  });
  assert.deepEqual(subject.resolvConf.servers, []);
  assert.equal(subject.hosts.size, 0);
});

test("system files: those of this machine can be read", () => {
  const subject = new SystemFiles(() => 0);
  assert.ok(subject.resolvConf.ndots >= 1);
  assert.ok(subject.hosts.size >= 0);
});

for (const target of targets) {
  test(`dns fuzz: ${target.name}: no input breaks an invariant`, () => {
    const report = runFuzz({ ...target, corpusDir: corpusPath(target), seconds: 1, seed: 1 });
    assert.ok(report.runs > report.corpusFiles);
  });
}
