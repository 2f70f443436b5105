import assert from "node:assert/strict";
import { test } from "node:test";
import { admitClient, admitServer } from "../../src/ztunnel/peer_identity.ts";

const ID = "spiffe://cluster.local/ns/default/sa/web";

test("peer_identity: a server must present one of the names that are expected, exactly", () => {
  assert.equal(admitServer([ID], [ID]), undefined);
  assert.equal(admitServer(["spiffe://x/y", ID], ["spiffe://a/b", ID]), undefined);
  for (const uris of [[], [`${ID}2`], [ID.slice(0, -1)], [ID.toUpperCase()], [`${ID}/`], [""]]) {
    assert.match(admitServer(uris, [ID]) ?? "", /did not present the expected SAN/);
  }
  assert.notEqual(admitServer([ID], []), undefined, "nothing expected is nobody admitted");
});

test("peer_identity: a refusal of a server names what was expected and what came", () => {
  assert.equal(
    admitServer(["spiffe://a/ns/b/sa/c"], [ID, "spiffe://d/e"]),
    `identity verification error: peer did not present the expected SAN (${ID},spiffe://d/e), got spiffe://a/ns/b/sa/c`,
  );
  assert.match(admitServer([], [ID]) ?? "", /got none$/);
});

test("peer_identity: a client must be of the trust domain, and is who that name says", () => {
  assert.deepEqual(admitClient([ID], "cluster.local"), { identity: ID });
  const refused = [
    [],
    ["spiffe://cluster.local.evil/ns/default/sa/web"],
    ["spiffe://evil/cluster.local/ns/default/sa/web"],
    ["https://cluster.local/ns/default/sa/web"],
    ["cluster.local"],
    ["spiffe://cluster.local"],
    ["spiffe://"],
    ["\0" + ID],
  ];
  for (const uris of refused) {
    const outcome = admitClient(uris, "cluster.local");
    assert.ok("refusal" in outcome, uris.join());
    assert.match(outcome.refusal, /not of the trust domain cluster\.local/);
  }
});

test("peer_identity: a client with more than one URI name is refused, whichever they are", () => {
  for (
    const uris of [[ID, ID], [ID, "spiffe://other/ns/a/sa/b"], ["spiffe://other/ns/a/sa/b", ID], ["https://x/", ID]]
  ) {
    const outcome = admitClient(uris, "cluster.local");
    assert.ok("refusal" in outcome, uris.join());
    assert.match(outcome.refusal, /presents 2 URI names where one is allowed/);
  }
  const many = admitClient(Array.from({ length: 5_000 }, (_, i) => ID + i), "cluster.local");
  assert.ok("refusal" in many && many.refusal.length < 500);
});

test("peer_identity: an empty trust domain admits nobody", () => {
  assert.ok("refusal" in admitClient([ID], ""));
  assert.ok("refusal" in admitClient(["spiffe:///ns/default/sa/web"], ""));
});
