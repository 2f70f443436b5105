/** AuthorizationPolicy on HTTP (reference waypoint 3.2): every kind of match as ALLOW and as DENY, and what becomes of policies that say nothing. */
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import { servicePolicy } from "../support/objects.ts";
import { type Asking, policyCases, type Who } from "../support/policy_cases.ts";
import { expectRows, httpRow, type Row, type Wanted } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import { Issuer } from "../support/tokens.ts";

const DENIED: Wanted = { status: 403, body: "RBAC: access denied" };
const ALLOWED: Wanted = { app: "alpha" };

const issuer = new Issuer("https://people.example.com", "RS256");

/** Tokens are understood; whether one is needed is not its affair. */
function tokenPolicy(name: string, service: LabService): KubeObject {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "RequestAuthentication",
    metadata: { name, namespace: service.namespace },
    spec: {
      targetRefs: [{ group: "", kind: "Service", name: service.name }],
      jwtRules: [{ issuer: issuer.name, jwks: issuer.keySet }],
    },
  };
}

function ask(name: string, who: Who, service: LabService, asking: Asking, wanted: Wanted): Row {
  const { from = who.client, path, method, headers, port } = asking;
  const more = {
    // As it stands: a client's own tidying would leave nothing to do.
    rawPath: path!,
    ...(method === undefined ? {} : { method }),
    ...(headers === undefined ? {} : { headers }),
  };
  return httpRow(
    `${name}: ${method ?? "GET"} ${path} ${JSON.stringify(headers ?? {})}`,
    from,
    service.url(port),
    more,
    wanted,
  );
}

scenario("policies: every kind of match, as ALLOW and as DENY", async (scene) => {
  const { client, stranger, alpha } = await scene.stage();
  const [outsider] = await scene.addApps({ name: "outsider", namespace: scene.namespace, node: scene.a });
  const allowing = await scene.addService("allowing", { pods: [alpha] });
  const denying = await scene.addService("denying", { pods: [alpha] });
  const rows: Row[] = [];
  const objects: KubeObject[] = [];
  for (const [action, service] of [["ALLOW", allowing], ["DENY", denying]] as const) {
    const who = { client, stranger, outsider: outsider!, issuer, vip: service.vip };
    const [met, unmet] = action === "ALLOW" ? [ALLOWED, DENIED] : [DENIED, ALLOWED];
    objects.push(tokenPolicy(service.name, service));
    for (const [i, policy] of policyCases(who).entries()) {
      objects.push(servicePolicy(`${service.name}-${i}`, service, { action, rules: policy.rules }));
      const name = `${action} ${policy.name}`;
      for (const asking of policy.met) rows.push(ask(`${name}, met`, who, service, asking, met));
      for (const asking of policy.unmet) rows.push(ask(`${name}, not met`, who, service, asking, unmet));
    }
  }
  await scene.apply(...objects);
  await expectRows(rows, 60_000);
}, { sideBySide: true });

scenario("policies: actions, their order, and policies that say nothing", async (scene) => {
  const { client, alpha } = await scene.stage();
  const service = (name: string) => scene.addService(name, { pods: [alpha] });
  const [empty, all, none, mixed, watched] = [
    await service("empty"),
    await service("all"),
    await service("none"),
    await service("mixed"),
    await service("watched"),
  ];
  const paths = (...paths: string[]) => [{ to: [{ operation: { paths } }] }];
  const dryRun = (policy: KubeObject): KubeObject => ({
    ...policy,
    metadata: { ...policy.metadata, annotations: { "istio.io/dry-run": "true" } },
  });
  await scene.apply(
    servicePolicy(empty.name, empty, { action: "ALLOW" }),
    servicePolicy(all.name, all, { action: "ALLOW", rules: [{}] }),
    servicePolicy(none.name, none, { action: "DENY", rules: [{}] }),
    servicePolicy(`${mixed.name}-allow`, mixed, { action: "ALLOW", rules: paths("/open/*", "/both/*") }),
    servicePolicy(`${mixed.name}-deny`, mixed, { action: "DENY", rules: paths("/both/*") }),
    servicePolicy(`${mixed.name}-audit`, mixed, { action: "AUDIT", rules: paths("/open/*") }),
    servicePolicy(`${watched.name}-audit`, watched, { action: "AUDIT", rules: [{}] }),
    dryRun(servicePolicy(`${watched.name}-deny`, watched, { action: "DENY", rules: [{}] })),
    dryRun(servicePolicy(`${watched.name}-allow`, watched, { action: "ALLOW", rules: paths("/never") })),
    servicePolicy(`${watched.name}-real`, watched, { action: "DENY", rules: paths("/real/*") }),
  );
  const row = (name: string, service: LabService, path: string, wanted: Wanted) =>
    httpRow(name, client, service.url("http", path), {}, wanted);
  await expectRows([
    row("ALLOW without rules allows nothing", empty, "/", DENIED),
    row("ALLOW with an empty rule allows all", all, "/", ALLOWED),
    row("DENY with an empty rule denies all", none, "/", DENIED),
    row("ALLOW what it names, AUDIT as well", mixed, "/open/a", ALLOWED),
    row("ALLOW and DENY: denied", mixed, "/both/a", DENIED),
    row("ALLOW what it does not name", mixed, "/other", DENIED),
    row("AUDIT and dry runs change nothing", watched, "/any", ALLOWED),
    row("beside dry runs the real one holds", watched, "/real/a", DENIED),
    {
      name: "gRPC is told in its own way",
      async check() {
        const { code, details } = await client.app.grpc(empty.address("grpc-api"), { method: "Unary" });
        if (code !== 7 || details !== "RBAC: access denied") throw new Error(`${code} ${details}`);
      },
    },
  ]);
}, { sideBySide: true });
