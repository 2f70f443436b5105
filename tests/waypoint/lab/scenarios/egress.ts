/** The third way of a request: from a pod through its ztunnel and the waypoint to the outside. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isIpv6 } from "../../../../src/mesh/ip.ts";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import { PORTS } from "../apps/protocol.ts";
import { AppProcess } from "../support/app_process.ts";
import { istioObject } from "../support/objects.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { AppPod } from "../support/stage.ts";

/** A host outside the mesh: a pod that istiod is told nothing of matters to no ztunnel, so it is one without capture, reached by a ServiceEntry. */
async function addOutside(
  scene: Scene,
  name: string,
  names: readonly string[],
): Promise<AppPod & { readonly ca: string }> {
  const { lab, a } = scene;
  const { namespace } = await scene.stage();
  const [pod] = await lab.addPods({ name: scene.name(name), namespace, node: a, captured: false });
  const { certificate, key, ca } = await issueServerCertificate(scene, name, names);
  for (const host of names) await lab.addHostName(pod!.ip(), host);
  return { pod: pod!, app: await AppProcess.start(pod!, { args: [certificate, key] }), ca };
}

/** From a CA made for it. */
async function issueServerCertificate(scene: Scene, name: string, names: readonly string[]) {
  const base = join(scene.lab.directory, `${scene.namespace}-${name}`);
  const alt = names.map((host) => `DNS:${host}`).join();
  const script = [
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=outside-ca -keyout ${base}-ca.key -out ${base}-ca.pem`,
    `openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=outside -keyout ${base}.key -out ${base}.csr`,
    `openssl x509 -req -in ${base}.csr -CA ${base}-ca.pem -CAkey ${base}-ca.key -CAcreateserial -days 2 -extfile ${base}.ext -out ${base}.pem`,
  ].join(" && ");
  await writeFile(`${base}.ext`, `subjectAltName=${alt}\n`);
  await scene.lab.plane.inside(["sh", "-ec", `(${script}) 2>/dev/null`]);
  const ca = await scene.lab.plane.inside(["cat", `${base}-ca.pem`]);
  return { certificate: `${base}.pem`, key: `${base}.key`, ca };
}

/** The address that istiod gives a host of a ServiceEntry. */
async function autoAddress(scene: Scene, object: Parameters<Scene["lab"]["plane"]["api"]["get"]>[0]): Promise<string> {
  return await eventually(async () => {
    const { status } = await scene.lab.plane.api.get(object);
    const { addresses = [] } = (status ?? {}) as { addresses?: readonly { readonly value: string }[] };
    const address = addresses.find(({ value }) => !isIpv6(value));
    if (address === undefined) throw new Error(`${object.metadata.name} has no address: ${JSON.stringify(status)}`);
    return address.value;
  }, 15_000);
}

const OUTSIDE_PORTS = [
  { number: 80, name: "http", protocol: "HTTP", targetPort: PORTS.http },
  { number: 91, name: "tcp", protocol: "TCP", targetPort: PORTS.echo },
  { number: 443, name: "http-tls", protocol: "HTTP", targetPort: PORTS.https },
];
/** Before ztunnel knows an address of this kind, a connection to it hangs for the kernel's patience. */
const IMPATIENT_MS = 1_000;
const USE_WAYPOINT = { "istio.io/use-waypoint": "waypoint" };

scenario(
  "pod to outside: a ServiceEntry by address and by name, HTTP and TCP, with a policy; the outside sees the waypoint",
  async (scene) => {
    const { client, stranger, waypoint, namespace } = await scene.stage();
    const outside = await addOutside(scene, "world", [`api.${scene.build}.example`]);
    for (const resolution of ["STATIC", "DNS"] as const) {
      const host = resolution === "DNS" ? `api.${scene.build}.example` : `static.${scene.build}.example`;
      const entry = istioObject("ServiceEntry", namespace, scene.name(`world-${resolution.toLowerCase()}`), {
        hosts: [host],
        location: "MESH_EXTERNAL",
        resolution,
        ports: OUTSIDE_PORTS,
        ...(resolution === "STATIC" ? { endpoints: [{ address: outside.pod.ip() }] } : {}),
      }, USE_WAYPOINT);
      await scene.apply(entry);
      const ip = await autoAddress(scene, entry);
      const echo = await eventually(
        () => client.app.echo(`http://${ip}/x`, { headers: { host }, timeoutMs: IMPATIENT_MS }),
        20_000,
      );
      assert.equal(echo.app, outside.pod.name);
      assert.equal(echo.headers["host"], host);
      assert.ok(echo.peer.startsWith(`${waypoint.replica.pod.ip()}:`), echo.peer);
      const peer = await client.pod.connect(ip, 91);
      peer.write("hello");
      assert.equal(await peer.read(`${outside.pod.name}: hello`.length), `${outside.pod.name}: hello`);
      peer.close();
      const targetRefs = [{ group: "networking.istio.io", kind: "ServiceEntry", name: entry.metadata.name }];
      const principals = [`cluster.local/ns/${namespace}/sa/client`];
      await scene.apply({
        apiVersion: "security.istio.io/v1",
        kind: "AuthorizationPolicy",
        metadata: { name: entry.metadata.name, namespace },
        spec: { targetRefs, action: "ALLOW", rules: [{ from: [{ source: { principals } }] }] },
      });
      await eventually(async () => {
        assert.equal((await stranger.app.http(`http://${ip}/x`, { headers: { host } })).status, 403);
      }, 15_000);
      assert.equal((await client.app.echo(`http://${ip}/x`, { headers: { host } })).app, outside.pod.name);
    }
    await outside.app.kill();
    await scene.lab.removePods(outside.pod);
  },
);

scenario(
  "pod to outside: TLS is originated, the server's certificate is verified, and one of another CA is refused",
  async (scene) => {
    const { client, namespace } = await scene.stage();
    const host = `secure.${scene.build}.example`;
    const outside = await addOutside(scene, "secure", [host]);
    const entry = istioObject("ServiceEntry", namespace, scene.name("secure"), {
      hosts: [host],
      location: "MESH_EXTERNAL",
      resolution: "DNS",
      ports: OUTSIDE_PORTS,
    }, USE_WAYPOINT);
    const secret = (ca: string) => ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: scene.name("world-ca"), namespace },
      type: "Opaque",
      data: { "ca.crt": Buffer.from(ca).toString("base64"), cacert: Buffer.from(ca).toString("base64") },
    });
    const rule = istioObject("DestinationRule", namespace, scene.name("secure"), {
      host,
      trafficPolicy: {
        portLevelSettings: [{
          port: { number: 443 },
          tls: { mode: "SIMPLE", credentialName: scene.name("world-ca"), sni: host },
        }],
      },
    });
    const other = await issueServerCertificate(scene, "other", [host]);
    await scene.apply(secret(other.ca), entry, rule);
    const ip = await autoAddress(scene, entry);
    const call = () => client.app.http(`http://${ip}:443/x`, { headers: { host }, timeoutMs: IMPATIENT_MS });
    await eventually(async () => {
      const { status, body } = await call();
      assert.equal(status, 503);
      assert.match(body, /^upstream connect error.*certificate.verif/i);
    }, 20_000);
    // The Secret is changed to the CA that has signed it.
    await scene.apply(secret(outside.ca));
    const answer = await eventually(async () => {
      const answer = await call();
      assert.equal(answer.status, 200, answer.body);
      return answer;
    }, 20_000);
    assert.equal(JSON.parse(answer.body).headers.host, host);
    await outside.app.kill();
    await scene.lab.removePods(outside.pod);
  },
);

scenario(
  "pod to outside: a wildcard's host is found by the request's own name; other names are refused",
  async (scene) => {
    const { client, namespace } = await scene.stage();
    const outside = await addOutside(scene, "wild", ["one", "two"].map((name) => `${name}.${scene.build}.example`));
    const entry = istioObject("ServiceEntry", namespace, scene.name("wild"), {
      hosts: [`*.${scene.build}.example`],
      location: "MESH_EXTERNAL",
      resolution: "DYNAMIC_DNS",
      ports: [{ number: PORTS.http, name: "http", protocol: "HTTP" }],
    }, USE_WAYPOINT);
    await scene.apply(entry);
    const ip = await autoAddress(scene, entry);
    const call = (host: string, timeoutMs = IMPATIENT_MS) =>
      client.app.http(`http://${ip}:${PORTS.http}/x`, { headers: { host }, timeoutMs });
    for (const host of ["one", "two"].map((name) => `${name}.${scene.build}.example`)) {
      const answer = await eventually(async () => {
        const answer = await call(host);
        assert.equal(answer.status, 200, answer.body);
        return answer;
      }, 20_000);
      assert.equal(JSON.parse(answer.body).headers.host, host);
    }
    // Not below the wildcard; below it but unknown to DNS.
    assert.equal((await call("one.other.example")).status, 404);
    const unknown = await call(`nobody.${scene.build}.example`, 20_000);
    assert.match(unknown.body, /DNS resolution failure/);
    assert.equal(unknown.status, 503);
    await pause(100);
    assert.equal((await call(`one.${scene.build}.example`)).status, 200);
    await outside.app.kill();
    await scene.lab.removePods(outside.pod);
  },
  { sideBySide: true },
);
