/** The start-up self-test, with the judgement of names that the data path uses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { proveTunnels } from "../../../src/waypoint/agent/self_test.ts";
import { compileText } from "../../../src/waypoint/match/text.ts";
import { admitClient, refuseEndpoint } from "../../../src/waypoint/transport/tunnel_names.ts";

test("self_test: this machine's TLS and the waypoint's judgement let no wrong peer in", () => {
  proveTunnels();
});

test("self_test: who may be at the other end of a tunnel", () => {
  const mesh = [compileText({ kind: "prefix", text: "spiffe://td/", ignoreCase: false })];
  assert.deepEqual(admitClient(["spiffe://td/ns/a/sa/b"], mesh), { identity: "spiffe://td/ns/a/sa/b" });
  assert.deepEqual(admitClient(["spiffe://any/ns/a/sa/b"], []), { identity: "spiffe://any/ns/a/sa/b" });
  for (const uris of [[], [""], ["spiffe://other/ns/a/sa/b"], ["spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/c"]]) {
    assert.ok("refusal" in admitClient(uris, mesh), uris.join());
  }
  assert.equal(refuseEndpoint(["spiffe://td/ns/a/sa/b"], mesh), undefined);
  assert.match(refuseEndpoint(["spiffe://other/x"], mesh) ?? "", /spiffe:\/\/other\/x, which is not of this mesh/);
  assert.match(refuseEndpoint([], mesh) ?? "", /nobody/);
});
