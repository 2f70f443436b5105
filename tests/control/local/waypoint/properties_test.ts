/** Whatever objects the reader lets through, the waypoint takes what is made of them whole: nothing of a file is lost on the way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { takeIn } from "./support.ts";

const PATTERNS = ["*", "a*", "*a", "a", "a.b/c", "*/x", "x/*"];
const BLOCKS = ["10.0.0.0/8", "10.1.2.3", "fd00::/8", "::1"];
const texts = (values: readonly string[]) => fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: 3 });
const some = <T>(parts: Readonly<Record<string, fc.Arbitrary<T>>>) =>
  fc.record(parts, { requiredKeys: [] }).filter((made) => Object.keys(made).length > 0);
const both = (name: string, values: readonly string[]) => ({
  [name]: texts(values),
  [`not${name[0]!.toUpperCase()}${name.slice(1)}`]: texts(values),
});

const source = some({
  ...both("principals", ["cluster.local/ns/a/sa/b", "*", "*/sa/b", "cluster.local/*"]),
  ...both("requestPrincipals", PATTERNS),
  ...both("namespaces", ["a", "a*", "*a", "*"]),
  ...both("ipBlocks", BLOCKS),
  ...both("remoteIpBlocks", BLOCKS),
});
const accounts = some(both("serviceAccounts", ["a", "b/c"]));
const operation = some({
  ...both("hosts", PATTERNS),
  ...both("ports", ["80", "9000"]),
  ...both("methods", ["GET", "P*", "*"]),
  ...both("paths", ["/", "/a*", "*.html", "/a/{*}/b/{**}", "*"]),
});
const condition = fc.constantFrom(
  ["request.headers[X-A]", ...PATTERNS],
  ["request.auth.claims[a][b]", ...PATTERNS],
  ["request.auth.audiences", "a", "b"],
  ["request.auth.presenter", "a"],
  ["request.auth.principal", ...PATTERNS],
  ["source.ip", ...BLOCKS],
  ["remote.ip", ...BLOCKS],
  ["source.namespace", "a", "a*"],
  ["source.principal", "cluster.local/ns/a/sa/b", "*"],
  ["source.serviceAccount", "a/b"],
  ["destination.ip", ...BLOCKS],
  ["destination.port", "80"],
  ["connection.sni", "a.b", "*.b"],
).chain(([key, ...values]) =>
  some({ values: texts(values), notValues: texts(values) }).map((lists) => ({ key: key!, ...lists }))
);
const rule = fc.record({
  from: fc.array(fc.oneof(source, accounts).map((source) => ({ source })), { minLength: 1, maxLength: 2 }),
  to: fc.array(operation.map((operation) => ({ operation })), { minLength: 1, maxLength: 2 }),
  when: fc.array(condition, { minLength: 1, maxLength: 2 }),
}, { requiredKeys: [] });
const policy = fc.record({
  action: fc.constantFrom("ALLOW", "DENY", "AUDIT"),
  dryRun: fc.boolean(),
  rules: fc.array(rule, { minLength: 1, maxLength: 3 }),
});

test("local policies: every policy that can be read is taken in whole, for requests and for bytes", () => {
  fc.assert(
    fc.property(fc.array(policy, { minLength: 1, maxLength: 3 }), (policies) => {
      const objects = policies.map(({ action, dryRun, rules }, index) => {
        const annotations = { "istio.io/dry-run": String(dryRun && action !== "AUDIT") };
        return JSON.stringify({
          apiVersion: "security.istio.io/v1",
          kind: "AuthorizationPolicy",
          metadata: { name: `p${index}`, namespace: "demo", ...(action === "AUDIT" ? {} : { annotations }) },
          spec: { targetRefs: [{ group: "", kind: "Service", name: "b" }], action, rules },
        });
      });
      const { rejections, compiled, http, chain } = takeIn(objects.join("\n---\n"));
      assert.deepEqual(rejections, []);
      assert.deepEqual(compiled.problems, []);
      const requests = http("inbound-vip|80|http|b.demo.svc.cluster.local").policies
        .filter(({ kind }) => kind === "rbac");
      assert.ok(requests.length > 0);
      const bytes = chain("inbound-vip|80|tcp|b.demo.svc.cluster.local");
      assert.ok(bytes.kind === "tcp" && bytes.rbac.length === requests.length);
    }),
    { numRuns: 150 },
  );
});
