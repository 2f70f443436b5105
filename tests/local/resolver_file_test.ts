import assert from "node:assert/strict";
import { test } from "node:test";
import { RESOLVER_FILE, RESOLVERS } from "../../src/local/resolver_file.ts";
import { parseResolvConf } from "../../src/ztunnel/dns/system_files.ts";

test("resolver file: names the nodes and searches the cluster's domain", () => {
  const { servers, search, ndots } = parseResolvConf(RESOLVER_FILE);
  assert.deepEqual(servers, [...RESOLVERS]);
  assert.deepEqual(search, ["svc.cluster.local", "cluster.local"]);
  assert.equal(ndots, 5);
  for (const address of RESOLVERS) assert.doesNotMatch(address, /^127\.|^::1$/, "the loopback is never captured");
});
