/** CUSTOM AuthorizationPolicies (reference waypoint 3.3): who is asked, what is said to whom, and that no answer means no. */
import { authorityOf } from "../support/authority.ts";
import { servicePolicy } from "../support/objects.ts";
import { type Provider, providerOf } from "../support/plane.ts";
import { expectRows, httpRow, type Row, type Wanted } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import { tcpRow } from "../support/tcp_rows.ts";
import { PORTS } from "../apps/protocol.ts";

const ALLOW = { "x-ext-authz": "allow", "x-who": "ann", "x-secret": "s" };
const NO: Wanted = { status: 403, body: "RBAC: access denied" };

scenario("policies: CUSTOM over HTTP and gRPC, bodies, headers, errors, connections", async (scene) => {
  const { client, alpha } = await scene.stage();
  await authorityOf(scene);
  const services = new Map<string, LabService>();
  const guard = async (name: string, provider: string, rules: readonly unknown[]) => {
    const service = await scene.addService(name, { pods: [alpha] });
    services.set(name, service);
    const custom = { action: "CUSTOM", provider: { name: provider }, rules };
    await scene.apply(servicePolicy(service.name, service, custom));
  };
  const guarded = [{ to: [{ operation: { paths: ["/guarded/*"] } }] }];
  for (const provider of ["http", "http-body", "http-slow", "grpc", "http-dead", "http-open", "grpc-dead"] as const) {
    await guard(provider, providerOf(scene.build, provider), guarded);
  }
  await guard("nobody", "a-provider-that-is-not-there", guarded);
  await guard("several", providerOf(scene.build, "http"), guarded);
  const second = { action: "CUSTOM", provider: { name: providerOf(scene.build, "grpc") }, rules: guarded };
  const several = services.get("several")!;
  await scene.apply(servicePolicy(`${several.name}-more`, several, second));
  const doors = await scene.addService("doors", {
    pods: [alpha],
    ports: [{ name: "tcp-a", port: 8100, target: PORTS.echo }, { name: "tcp-b", port: 8101, target: PORTS.echo }, {
      name: "tcp-c",
      port: 8102,
      target: PORTS.echo,
    }],
  });
  await scene.apply(
    servicePolicy(doors.name, doors, {
      action: "CUSTOM",
      provider: { name: providerOf(scene.build, "grpc") },
      rules: [{ to: [{ operation: { ports: ["8100", "8101"] } }] }],
    }),
    // Denied whatever the authority says.
    servicePolicy(`${doors.name}-deny`, services.get("http")!, {
      action: "DENY",
      rules: [{ to: [{ operation: { paths: ["/guarded/never"] } }] }],
    }),
  );

  const row = (
    name: string,
    provider: Provider | "nobody" | "several",
    path: string,
    headers: Readonly<Record<string, string>>,
    wanted: Wanted,
    body?: string,
  ): Row =>
    httpRow(`${provider}: ${name}`, client, services.get(provider)!.url("http", path), {
      headers,
      ...(body === undefined ? {} : { body }),
    }, wanted);
  const saw = (wanted: Readonly<Record<string, unknown>>) => (row: Row, provider: Provider, body?: string): Row => ({
    name: `${row.name}, and the authority saw`,
    async check() {
      const url = services.get(provider)!.url("http", "/guarded/a?b=c");
      const echo = await client.app.echo(url, { headers: ALLOW, ...(body === undefined ? {} : { body }) });
      const told = JSON.parse(echo.headers["x-saw"] ?? "{}") as Readonly<Record<string, unknown>>;
      for (const [name, value] of Object.entries(wanted)) {
        if (told[name] !== value) {
          throw new Error(`${name} ${JSON.stringify(told[name])}, not ${JSON.stringify(value)}`);
        }
      }
    },
  });
  const allowed: Wanted = {
    app: "alpha",
    got: { "x-added": "by-authority", "x-private": undefined },
    headers: { "x-client": "for-client", "x-private": undefined },
  };
  const deniedByHttp: Wanted = {
    status: 403,
    body: "no, says the authority",
    headers: { "x-denied": "by-authority", "x-private": undefined },
  };
  const deniedByGrpc: Wanted = { status: 418, body: "no, says the authority", headers: { "x-denied": "by-authority" } };
  const plain: Wanted = { app: "alpha", got: { "x-saw": undefined } };
  await expectRows([
    row("allows", "http", "/guarded/a", ALLOW, allowed),
    row("denies", "http", "/guarded/a", {}, deniedByHttp),
    row("is not asked", "http", "/free", {}, plain),
    row("allows what is denied otherwise", "http", "/guarded/never", ALLOW, NO),
    saw({ method: "GET", path: "/check/guarded/a?b=c", who: "ann", secret: null, provider: "yes", bytes: 0 })(
      row("headers", "http", "/", {}, plain),
      "http",
    ),
    row("allows", "http-body", "/guarded/a", ALLOW, { ...allowed, method: "POST" }, "x".repeat(1000)),
    saw({ method: "POST", bytes: 64 })(
      row("a part of the body", "http-body", "/", {}, plain),
      "http-body",
      "x".repeat(1000),
    ),
    row("allows", "grpc", "/guarded/a", ALLOW, {
      app: "alpha",
      got: { "x-added": "by-authority", "x-secret": undefined },
      headers: { "x-client": "for-client" },
    }),
    row("denies", "grpc", "/guarded/a", {}, deniedByGrpc),
    row("is not asked", "grpc", "/free", {}, { app: "alpha", got: { "x-added": undefined } }),
    saw({ method: "POST", path: "/guarded/a?b=c", who: "ann", bytes: 64, source: client.pod.ip() })(
      row("body and client", "grpc", "/", {}, plain),
      "grpc",
      "y".repeat(500),
    ),
    row("nobody there: the status that is set", "http-dead", "/guarded/a", ALLOW, { status: 503 }),
    row("nobody there: others pass", "http-dead", "/free", {}, plain),
    row("nobody there: open, as is set", "http-open", "/guarded/a", {}, plain),
    row("nobody there", "grpc-dead", "/guarded/a", ALLOW, { status: 403 }),
    row("no answer in time", "http-slow", "/guarded/a", { "x-ext-authz": "hang" }, { status: 403 }),
    row("in time", "http-slow", "/guarded/a", ALLOW, allowed),
    row("two at once, which istiod does not support", "several", "/guarded/a", ALLOW, NO),
    row("not configured", "nobody", "/guarded/a", ALLOW, NO),
    row("not configured: others pass", "nobody", "/free", {}, plain),
    tcpRow("a connection that it allows", client, doors, 8100, "alpha"),
    tcpRow("a connection that it denies", client, doors, 8101, undefined),
    tcpRow("a connection that it is not asked about", client, doors, 8102, "alpha"),
  ], 60_000);
}, { sideBySide: true });
