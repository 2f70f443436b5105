import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CertificateName } from "../../../src/platform/certificates.ts";
import type { UpstreamTlsSpec } from "../../../src/waypoint/spec/mod.ts";
import { bearsDnsName, compileNames } from "../../../src/waypoint/transport/peer_names.ts";

type San = UpstreamTlsSpec["sans"][number];
const dns = (value: string): CertificateName => ({ type: "dns", value });
const uri = (value: string): CertificateName => ({ type: "uri", value });
const exact = (type: San["type"], text: string): San => ({ type, match: { kind: "exact", text, ignoreCase: false } });
const isTaken = (sans: readonly San[], names: readonly CertificateName[]): boolean =>
  compileNames({ autoSan: false, sans })(names, "") === undefined;

describe("peer names", () => {
  test("peer names: a wildcard bears one label, and never what lies beside or above it", () => {
    for (
      const [certified, host, bears] of [
        ["a.example.com", "a.example.com", true],
        ["A.Example.com", "a.example.COM", true],
        ["*.example.com", "a.example.com", true],
        ["*.example.com", "a.b.example.com", false],
        ["*.example.com", "example.com", false],
        ["*.example.com", ".example.com", false],
        ["*.example.com", "axexample.com", false],
        ["*", "a", false],
        ["*.", "a.", false],
        ["a*.example.com", "ab.example.com", false],
        ["a.example.com\0.evil.com", "a.example.com", false],
      ] as const
    ) assert.equal(bearsDnsName(certified, host), bears, `${certified} ${host}`);
  });

  test("peer names: one of the expected names suffices, and its type counts", () => {
    assert.ok(isTaken([], []));
    assert.ok(isTaken([exact("dns", "a.b"), exact("uri", "spiffe://td/x")], [uri("spiffe://td/x")]));
    assert.ok(!isTaken([exact("uri", "a.b")], [dns("a.b")]));
    assert.ok(!isTaken([exact("dns", "a.b")], []));
    assert.ok(isTaken([exact("any", "a.b.c")], [dns("*.b.c")]));
    assert.ok(!isTaken([exact("uri", "spiffe://td/x")], [uri("spiffe://td/X")]), "URIs are told apart by case");
    const prefix: San = { type: "uri", match: { kind: "prefix", text: "spiffe://td/ns/a/", ignoreCase: false } };
    assert.ok(isTaken([prefix], [uri("spiffe://td/ns/a/sa/b")]) && !isTaken([prefix], [uri("spiffe://td/ns/ab/sa/b")]));
  });

  test("peer names: the request's host, by name or address, comes before configured names", () => {
    const judge = compileNames({ autoSan: true, sans: [exact("dns", "configured.example")] });
    assert.equal(judge([dns("*.example.com")], "a.example.com"), undefined);
    assert.match(judge([dns("configured.example")], "a.example.com") ?? "", /do not match a\.example\.com/);
    assert.equal(judge([{ type: "ip", value: "192.0.2.1" }], "192.0.2.1"), undefined);
    assert.notEqual(judge([dns("192.0.2.1")], "192.0.2.1"), undefined);
    assert.equal(judge([dns("configured.example")], ""), undefined);
  });

  test("peer names: a refusal shows a few of the names", () => {
    const many = Array.from({ length: 100 }, (_, i) => dns(`n${i}.example`));
    const refusal = compileNames({ autoSan: false, sans: [exact("dns", "x")] })(many, "") ?? "";
    assert.match(refusal, /n0\.example, n1\.example, n2\.example\)/);
  });
});
