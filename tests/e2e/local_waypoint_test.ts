/** `ambit local` with a Gateway in its file: routes, policies and tokens hold at a real waypoint, and change while they are used. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { MeshProcess } from "../../scripts/demo/mesh_process.ts";
import { processesOf } from "./support/local_processes.ts";
import { type PodLoad, startPodLoad } from "./support/pod_load.ts";

const ISSUER = "https://issuer.example";
const keys = await generateKeyPair("ES256");
const JWKS = JSON.stringify({ keys: [{ ...await exportJWK(keys.publicKey), kid: "k", alg: "ES256" }] });
const token = (issuer = ISSUER): Promise<string> =>
  new SignJWT({}).setProtectedHeader({ alg: "ES256", kid: "k" }).setIssuer(issuer).setSubject("someone")
    .setExpirationTime("1h").sign(keys.privateKey);

const SHOP = (version: string, node: string) =>
  `  - { name: shop-${version}, namespace: town, serviceAccount: shop, node: ${node}, ` +
  `labels: { app: shop, version: ${version} }, command: exec ambit echo }\n`;
const SERVICE = (name: string, selector: string, more = "") =>
  `  - { name: ${name}, namespace: town, selector: { ${selector} }, ports: { 80: 8080 }${more} }\n`;

/** `label`: the waypoint of the service `shop`. */
const mesh = (label = "way") =>
  `nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: b }
${SHOP("v1", "a")}${SHOP("v2", "b")}services:
${SERVICE("shop", "app: shop", `, labels: { istio.io/use-waypoint: ${label} }`)}${
    SERVICE("shop-v1", "app: shop, version: v1")
  }${SERVICE("shop-v2", "app: shop, version: v2")}`;

const GATEWAY = `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: way, namespace: town }
spec: { gatewayClassName: istio-waypoint, listeners: [{ name: mesh, port: 15008, protocol: HBONE }] }
`;
/** Who asks for v2 gets it, everybody else `rest`. */
const ROUTE = (rest: string, filters = "") =>
  `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: shop, namespace: town }
spec:
  parentRefs: [{ group: "", kind: Service, name: shop }]
  rules:
    - matches: [{ headers: [{ name: x-version, value: v2 }] }]
      backendRefs: [{ name: shop-v2, port: 80 }]
    - backendRefs: [{ name: ${rest}, port: 80 }]
${filters}`;
const DENY = (method: string) =>
  `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: methods, namespace: town }
spec:
  targetRefs: [{ group: "", kind: Service, name: shop }]
  action: DENY
  rules: [{ to: [{ operation: { methods: [${method}] } }] }]
`;
const TOKENS = `---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: town }
spec:
  targetRefs: [{ group: "", kind: Service, name: shop }]
  jwtRules: [{ issuer: "${ISSUER}", jwks: '${JWKS}' }]
`;
const BASE = mesh() + GATEWAY + ROUTE("shop-v1") + DENY("DELETE") + TOKENS;

let directory: string;
let path: string;
let local: MeshProcess;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "ambit-e2e-"));
  path = join(directory, "mesh.yaml");
  await writeFile(path, BASE);
  local = await MeshProcess.start([path]);
  await local.up();
  for (const version of ["v1", "v2"]) await local.line((line) => line.includes(`shop-${version} listens`));
});

after(async () => {
  await local.dispose();
  await rm(directory, { recursive: true });
});

/** Status and body of one answer. */
async function ask(...args: string[]): Promise<{ status: number; body: string }> {
  const { code, stdout, stderr } = await local.exec("client", [
    ...["curl", "-sS", "-m", "10", "-w", "\n%{http_code}", ...args],
    "http://shop/",
  ]);
  assert.equal(code, 0, stderr);
  const lines = stdout.split("\n");
  return { status: Number(lines.at(-1)), body: lines.slice(0, -1).join("\n").trim() };
}

async function served(...args: string[]): Promise<string> {
  const { status, body } = await ask(...args);
  assert.equal(status, 200, body);
  return (JSON.parse(body) as { pod: string }).pod;
}

async function edit(text: string): Promise<void> {
  const mark = local.lines.length;
  await writeFile(path, text);
  await local.up(mark);
}

/** Requests from the client, under way when it resolves. */
async function underLoad(): Promise<PodLoad> {
  const mark = local.lines.length;
  const load = startPodLoad(local, "client", "http://shop/load", directory);
  await local.line((line) => line.startsWith("way ") && line.includes(`"GET /load HTTP/1.1" 200`), mark);
  return load;
}

test("local waypoint: a route splits by a header, and the waypoint knows who asks", async () => {
  const mark = local.lines.length;
  assert.equal(await served(), "shop-v1");
  assert.equal(await served("-H", "x-version: v2"), "shop-v2");
  assert.equal(await served("-6"), "shop-v1");
  const seen = await local.line((line) => line.startsWith("way ") && line.includes(`"GET / HTTP/1.1" 200`), mark);
  assert.match(seen, /src\.identity="spiffe:\/\/cluster\.local\/ns\/town\/sa\/client"/);
  // Behind it the shop's ztunnel sees the waypoint.
  const { fields } = await local.access("a", ({ fields }) => fields["dst.workload"] === "shop-v1", mark);
  assert.equal(fields["src.identity"], "spiffe://cluster.local/ns/town/sa/way");
});

test("local waypoint: a policy denies a method, and tokens are judged", async () => {
  assert.deepEqual(await ask("-X", "DELETE"), { status: 403, body: "RBAC: access denied" });
  assert.equal((await ask("-X", "POST")).status, 200);
  assert.equal((await ask("-H", `authorization: Bearer ${await token()}`)).status, 200);
  const other = await ask("-H", `authorization: Bearer ${await token("https://elsewhere.example")}`);
  assert.equal(other.status, 401);
  assert.match(other.body, /issuer/i);
});

test("local waypoint: routes and policies change under load without a failed request, and without a new process", async () => {
  const pids = async () => (await processesOf(local)).filter(isWaypoint).map(({ pid }) => pid);
  const before = await pids();
  const load = await underLoad();
  for (let round = 0; round < 3; round++) {
    await edit(BASE.replace("name: shop-v1, port", "name: shop-v2, port"));
    assert.equal(await served(), "shop-v2");
    await edit(BASE.replace("[DELETE]", "[PUT]"));
    assert.equal(await served(), "shop-v1");
    assert.equal((await ask("-X", "DELETE")).status, 200);
    assert.equal((await ask("-X", "PUT")).status, 403);
    await edit(BASE);
    assert.equal((await ask("-X", "DELETE")).status, 403);
  }
  const { asked, failed } = await load.stop();
  assert.deepEqual(failed, [], `of ${asked}`);
  assert.ok(asked > 50, `${asked}`);
  assert.deepEqual(await pids(), before);
});

test("local waypoint: a service leaves it and comes back, and it goes and comes itself, under load without a failed request", async () => {
  const load = await underLoad();
  const passes = async () => {
    const mark = local.lines.length;
    await served();
    await local.line((line) => /^[ab] .*direction="outbound"/.test(line) && line.includes("client"), mark);
    return local.lines.slice(mark).some((line) => line.startsWith("way ") && line.includes(`"curl/`));
  };
  assert.equal(await passes(), true);
  await edit(mesh("none") + GATEWAY);
  assert.equal(await passes(), false);
  await edit(BASE);
  assert.equal(await passes(), true);
  await edit(mesh("none"));
  assert.equal(await passes(), false);
  assert.deepEqual((await processesOf(local)).filter(isWaypoint), []);
  assert.equal((await local.exec("way", ["true"])).code, 1, "the pod is gone");
  await edit(BASE);
  assert.equal(await passes(), true);
  const { asked, failed } = await load.stop();
  assert.deepEqual(failed, [], `of ${asked}`);
  assert.ok(asked > 50, `${asked}`);
});

test("local waypoint: an object that cannot be honoured is refused by its line, and the old one stays", async () => {
  const mark = local.lines.length;
  const text = mesh() + GATEWAY + ROUTE("shop-v2", "      filters: [{ type: ExtensionRef }]\n") + DENY("GET");
  await writeFile(path, text);
  await local.line((line) => line.endsWith("Nothing was changed."), mark);
  const line = text.split("\n").findIndex((line) => line.includes("ExtensionRef")) + 1;
  const told = local.lines.slice(mark).filter((text) => text.startsWith(`${path}:${line}:`));
  assert.match(told[0] ?? "", /ExtensionRef/, local.lines.slice(mark).join("\n"));
  assert.equal(await served(), "shop-v1");
  assert.equal((await ask("-X", "DELETE")).status, 403);
  await edit(BASE);
});

test("local waypoint: one that is killed comes back with all that it was told", async () => {
  const mark = local.lines.length;
  const [waypoint, ...others] = (await processesOf(local)).filter(isWaypoint);
  assert.equal(others.length, 0);
  process.kill(waypoint!.pid, "SIGKILL");
  await local.line((line) => line.includes("the waypoint town/way ended: killed by SIGKILL; starting it again"), mark);
  await local.line((line) => line.startsWith("way ") && line.includes("\tready\t"), mark);
  assert.equal(await served("-H", "x-version: v2"), "shop-v2");
  assert.equal((await ask("-X", "DELETE")).status, 403);
});

test("local waypoint: Ctrl-C leaves nothing", async () => {
  assert.equal(await local.end("SIGINT"), 0);
  assert.deepEqual(await processesOf(local), []);
  assert.deepEqual(await local.leftOvers(), []);
});

test("local waypoint: one of another namespace for all: services and pods called by their address, and curl in its pod", async () => {
  const file = join(directory, "all.yaml");
  await writeFile(
    file,
    `nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: street, serviceAccount: client, node: b }
  - { name: shop, namespace: town, serviceAccount: shop, node: a, address: 10.9.9.9, labels: { app: shop }, command: exec ambit echo }
services:
  - { name: shop, namespace: town, selector: { app: shop }, ports: { 80: 8080 } }
---
apiVersion: v1
kind: Namespace
metadata: { name: town, labels: { istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: edge } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: way, namespace: edge, labels: { istio.io/waypoint-for: all }, annotations: { ambit.dev/node: b } }
spec:
  gatewayClassName: istio-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE, allowedRoutes: { namespaces: { from: All } } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-delete, namespace: edge }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: way }]
  action: DENY
  rules: [{ to: [{ operation: { methods: [DELETE] } }] }]
`,
  );
  const mesh = await MeshProcess.start([file]);
  try {
    await mesh.up();
    await mesh.line((line) => line.includes("shop listens"));
    for (const url of ["http://shop/", "http://10.9.9.9:8080/"]) {
      const curl = (...args: string[]) => mesh.exec("client", ["curl", "-sS", "-m", "10", ...args, url]);
      assert.match((await curl()).stdout, /"service":"shop"/);
      assert.equal((await curl("-X", "DELETE")).stdout, "RBAC: access denied");
    }
    const probe = await mesh.exec("way", ["curl", "-s", "-w", "%{http_code}", "localhost:15021/healthz/ready"]);
    assert.equal(probe.stdout, "200");
    const place = mesh.lines.findIndex((line) => line.includes("edge/way"));
    assert.ok(place > mesh.lines.findIndex((line) => line.startsWith("  b ")), "it is on the node that it names");
    assert.equal(await mesh.end("SIGTERM"), 0);
  } finally {
    await mesh.dispose();
  }
});

function isWaypoint({ command }: { readonly command: string }): boolean {
  return /\0waypoint\0--concurrency=1\0/.test(command);
}
