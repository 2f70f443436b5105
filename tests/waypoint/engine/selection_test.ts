import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { Selection } from "../../../src/waypoint/engine/selection.ts";
import { MAX_SNIFFED_BYTES, sniff } from "../../../src/waypoint/engine/sniffer.ts";
import type { ChainName, PortSelection } from "../../../src/waypoint/spec/mod.ts";
import { replay } from "../config/fixtures.ts";

const only = (chain: string): PortSelection => ({ kind: "any", to: { kind: "chain", chain: chain as ChainName } });
const ports = (...all: [number, string][]): PortSelection => ({
  kind: "ports",
  ports: Object.fromEntries(all.map(([port, chain]) => [port, { kind: "chain", chain: chain as ChainName }])),
});

test("selection: the most specific range decides, whether or not it knows the port", () => {
  const selection = new Selection({
    authorities: { "shop.example:80": "by-name" as ChainName },
    ranges: [
      { cidrs: ["10.0.0.0/8"], to: only("wide") },
      { cidrs: ["10.1.2.3/32", "2001:db8::1/128"], to: ports([80, "http"], [9000, "tcp"]) },
      { cidrs: ["10.1.0.0/16"], to: only("middle") },
      { cidrs: ["10.1.2.3/32"], to: only("second") },
    ],
  });
  const find = (ip: string, port: number, authority = "x"): string | undefined => {
    const choice = selection.find(authority, ip, port);
    return choice?.kind === "chain" ? choice.chain : undefined;
  };
  assert.equal(find("10.1.2.3", 80), "http");
  assert.equal(find("10.1.2.3", 9000), "tcp");
  assert.equal(find("10.1.2.3", 81), undefined);
  assert.equal(find("10.1.2.4", 80), "middle");
  assert.equal(find("10.2.2.4", 80), "wide");
  assert.equal(find("11.0.0.1", 80), undefined);
  assert.equal(find("2001:db8::1", 80), "http");
  assert.equal(find("2001:DB8:0:0::1", 9000), "tcp");
  assert.equal(find("::ffff:10.1.2.3", 80), "http");
  assert.equal(find("no address", 80), undefined);
  assert.equal(find("1.2.3.4", 1, "shop.example:80"), "by-name");
});

test("selection: a real istiod's workload ranges are sniffed, its services are not", () => {
  const { updates } = replay("forall");
  const spec = updates.findLast(({ selection }) => selection)?.selection;
  assert.ok(spec !== undefined);
  const selection = new Selection(spec);
  assert.deepEqual(selection.find("", "10.96.81.3", 80), {
    kind: "chain",
    chain: "inbound-vip|80|http|b.demo.svc.cluster.local",
  });
  assert.deepEqual(selection.find("", "10.222.1.1", 4711), {
    kind: "sniff",
    protocols: { "http/1.1": "direct-http", h2c: "direct-http", other: "direct-tcp" },
  });
});

test("sniff: what the first bytes are", () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const cases: readonly [string, ReturnType<typeof sniff>][] = [
    ["", undefined],
    ["GET", undefined],
    ["GET /a HTTP/1.1\r\n", "http/1.1"],
    ["GET /a HTTP/1.0\r\n", "http/1.0"],
    ["GET /a HTTP/1", undefined],
    ["GET /a\r\n", "other"],
    ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "h2c"],
    ["PRI * HT", undefined],
    ["PRINT /x HTTP/1.1\r\n", "http/1.1"],
    ["\x16\x03\x01", "other"],
    ["\r\n", "other"],
    ["SSH-2.0-OpenSSH\r\n", "other"],
    ["EHLO mail.example\r\n", "other"],
    ["hello", "other"],
    ["get / HTTP/1.1\r\n", "other"],
    [`${"A".repeat(40)}`, "other"],
    [`GET /${"a".repeat(MAX_SNIFFED_BYTES)}`, "other"],
    ["GET /a\n", "other"],
  ];
  for (const [text, wanted] of cases) assert.equal(sniff(bytes(text)), wanted, JSON.stringify(text.slice(0, 40)));
});

test("sniff: more bytes never change a verdict", () => {
  const start = fc.constantFrom(
    "GET /a HTTP/1.1\r\nHost: x",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0",
    "\x16\x03\x01\x02",
    "hello world\r\n",
    "POST / HTTP/1.0\r\n",
  );
  fc.assert(fc.property(start, fc.uint8Array({ maxLength: 40 }), (text, tail) => {
    const bytes = new Uint8Array([...new TextEncoder().encode(text), ...tail]);
    let verdict: ReturnType<typeof sniff>;
    for (let end = 1; end <= bytes.length; end++) {
      const now = sniff(bytes.subarray(0, end));
      if (verdict !== undefined) assert.equal(now, verdict);
      verdict = now;
    }
  }));
});
