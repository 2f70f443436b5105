/**
 * A whole waypoint as its own process, on the loopback, with the files that istiod's template mounts; and beside it an istiod that answers with what a
 * real one sent (tests/fixtures/waypoint), the endpoints being the test's own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get, request } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { ambitCommand } from "../../../scripts/demo/mesh_process.ts";
import { createLocalCa, type LocalCa } from "../../../src/control/local/ca.ts";
import { ClusterLoadAssignmentSchema } from "../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { DeltaDiscoveryResponseSchema, ResourceSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";
import { createKeyAndRequest } from "../../../src/identity/csr.ts";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";
import { FakeIstiod, type ServerStream } from "../../control/istiod/fake_istiod.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { within } from "./wait.ts";

/** Of the service in the fixture "plain". */
export const VIP = "10.96.81.3";
export const HTTP_CLUSTER = "inbound-vip|80|http|b.demo.svc.cluster.local";
export const TCP_CLUSTER = "inbound-vip|9000|tcp|b.demo.svc.cluster.local";
const CLIENT_ID = "spiffe://cluster.local/ns/demo/sa/client";

const TYPES = {
  cds: "envoy.config.cluster.v3.Cluster",
  eds: "envoy.config.endpoint.v3.ClusterLoadAssignment",
  lds: "envoy.config.listener.v3.Listener",
  workload: "istio.workload.Workload",
};

/** One endpoint, reached without a tunnel: a resource of xDS, encoded. */
export function plainEndpoint(cluster: string, port: number): Uint8Array {
  const assignment = create(ClusterLoadAssignmentSchema, {
    clusterName: cluster,
    endpoints: [{
      lbEndpoints: [{
        hostIdentifier: {
          case: "endpoint",
          value: {
            address: {
              address: {
                case: "socketAddress",
                value: { address: "127.0.0.1", portSpecifier: { case: "portValue", value: port } },
              },
            },
          },
        },
      }],
    }],
  });
  const resource = anyPack(ClusterLoadAssignmentSchema, assignment);
  return toBinary(ResourceSchema, create(ResourceSchema, { name: cluster, version: String(port), resource }));
}

export class SmallIstiod {
  readonly istiod: FakeIstiod;
  readonly ca: LocalCa;
  readonly rootPem: string;
  readonly #directory: string;
  readonly #resources = new Map<string, readonly Uint8Array[]>();
  #nonce = 1;

  private constructor(istiod: FakeIstiod, ca: LocalCa, rootPem: string, directory: string) {
    this.#directory = directory;
    this.istiod = istiod;
    this.ca = ca;
    this.rootPem = rootPem;
    for (const [file, type] of Object.entries(TYPES)) {
      const url = new URL(`../../fixtures/waypoint/plain/${file}.binpb`, import.meta.url);
      const { resources } = fromBinary(DeltaDiscoveryResponseSchema, readFileSync(url));
      this.#resources.set(`type.googleapis.com/${type}`, resources);
    }
    void this.#serve();
  }

  static async start(endpoints: readonly Uint8Array[]): Promise<SmallIstiod> {
    const authority = await TestAuthority.create("istiod");
    const directory = mkdtempSync(join(tmpdir(), "ambit-small-istiod-"));
    const ca = await createLocalCa({ now: Date.now, directory });
    const istiod = await FakeIstiod.start({
      material: await authority.leaf({ uris: [], dnsNames: ["localhost"] }),
      sign: async ({ request }) => {
        const id = "spiffe://cluster.local/ns/demo/sa/waypoint";
        const { chain, roots } = await ca.sign(id, request.csr);
        return [...chain, roots.join("")];
      },
    });
    const small = new SmallIstiod(istiod, ca, authority.pem, directory);
    small.#resources.set(`type.googleapis.com/${TYPES.eds}`, endpoints);
    return small;
  }

  async client(): Promise<TlsMaterial> {
    const { csrPem, privateKeyPem } = createKeyAndRequest(CLIENT_ID);
    return { privateKey: privateKeyPem, ...await this.ca.sign(CLIENT_ID, csrPem) };
  }

  /** A revocation list of the CA with the leaf of each chain on it. */
  async crl(revoked: readonly TlsMaterial[]): Promise<string> {
    const read = (name: string) => readFileSync(join(this.#directory, name), "utf8");
    const root = await TestAuthority.load(read("root-cert.pem"), read("root-key.pem"));
    return root.crl(revoked.map(({ chain }) => chain[0]));
  }

  async close(): Promise<void> {
    await this.istiod.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #serve(): Promise<void> {
    for (;;) void this.#follow(await this.istiod.streams.take());
  }

  async #follow(stream: ServerStream): Promise<void> {
    for (;;) {
      const { typeUrl, responseNonce, resourceNamesSubscribe } = await stream.requests.take();
      if (responseNonce !== "" && resourceNamesSubscribe.length === 0) continue;
      const resources = this.#resources.get(typeUrl) ?? [];
      stream.send({ typeUrl, resources: [...resources], nonce: String(this.#nonce++) });
    }
  }
}

export interface WaypointWish {
  readonly istiod: SmallIstiod;
  readonly env?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  /** Further files of the pod. */
  readonly files?: Readonly<Record<string, string>>;
  /** ProxyConfig beside address and ports. */
  readonly proxyConfig?: Readonly<Record<string, unknown>>;
  /** What to put before the command, to run it as somebody else; gets the pod's directory. */
  readonly prefix?: (directory: string) => readonly string[];
  /** Nothing of the test's own environment is passed on. */
  readonly bareEnvironment?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
}

export class WaypointProcess {
  readonly lines: string[] = [];
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  readonly hbonePort: number;
  readonly readinessPort: number;
  readonly statsPort: number;
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #startedMs = performance.now();

  private constructor(child: ChildProcess, directory: string, [hbone, readiness, stats]: readonly number[]) {
    this.#child = child;
    this.#directory = directory;
    [this.hbonePort, this.readinessPort, this.statsPort] = [hbone, readiness, stats];
    this.exited = new Promise((resolve) => child.on("exit", (code, signal) => resolve({ code, signal })));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8");
      stream?.on("data", (text: string) => void this.lines.push(...text.split("\n").filter((line) => line !== "")));
    }
  }

  static async start(wish: WaypointWish): Promise<WaypointProcess> {
    const { istiod, env = {}, flags = [], proxyConfig = {} } = wish;
    const directory = mkdtempSync(join(tmpdir(), "ambit-waypoint-"));
    chmodSync(directory, 0o755);
    const files = {
      "var/run/secrets/istio/root-cert.pem": istiod.rootPem,
      "var/run/secrets/tokens/istio-token": "token",
      "etc/istio/pod/labels": 'gateway.networking.k8s.io/gateway-name="waypoint"\npod-template-hash="7d9f"\n',
      "etc/istio/pod/annotations": 'istio.io/rev="default"\n',
      ...wish.files,
    };
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(directory, name, ".."), { recursive: true });
      writeFileSync(join(directory, name), text);
    }
    const [hbone, readiness, stats, admin, prometheus] = await freePorts(5);
    const command = ambitCommand([
      ..."proxy waypoint --domain demo.svc.cluster.local --serviceCluster waypoint.demo".split(" "),
      ..."--proxyLogLevel warning --proxyComponentLogLevel misc:error --log_output_level default:info".split(" "),
      ...flags,
    ]);
    const [file = "", ...args] = [...wish.prefix?.(directory) ?? [], ...command];
    const child = spawn(file, args, {
      cwd: directory,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...(wish.bareEnvironment === true ? { PATH: process.env["PATH"] } : process.env),
        POD_NAME: "waypoint-7d9f-abcde",
        POD_NAMESPACE: "demo",
        INSTANCE_IP: "10.222.3.1",
        SERVICE_ACCOUNT: "waypoint",
        TRUST_DOMAIN: "cluster.local",
        PILOT_CERT_PROVIDER: "istiod",
        CA_ADDR: `localhost:${istiod.istiod.port}`,
        ISTIO_CPU_LIMIT: "1",
        ISTIO_META_CLUSTER_ID: "Kubernetes",
        ISTIO_META_NODE_NAME: "node-1",
        ISTIO_META_WORKLOAD_NAME: "waypoint",
        PROXY_CONFIG: JSON.stringify({
          discoveryAddress: `localhost:${istiod.istiod.port}`,
          statusPort: stats,
          proxyAdminPort: admin,
          ...proxyConfig,
        }),
        ENVOY_STATUS_PORT: String(readiness),
        ENVOY_PROMETHEUS_PORT: String(prometheus),
        AMBIT_HBONE_PORT: String(hbone),
        IPV6_ENABLED: "false",
        ...env,
      },
    });
    return new WaypointProcess(child, directory, [hbone, readiness, stats]);
  }

  /** Puts a file where the pod has it. */
  write(path: string, text: string): void {
    mkdirSync(join(this.#directory, path, ".."), { recursive: true });
    writeFileSync(join(this.#directory, path), text);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Resolves when the probe succeeds; with the milliseconds since the start. */
  async ready(timeoutMs = 30_000): Promise<number> {
    let last = "";
    const end = performance.now() + timeoutMs;
    while (performance.now() < end) {
      if (this.#child.exitCode !== null) break;
      const { status, body } = await this.probe();
      if (status === 200) return performance.now() - this.#startedMs;
      last = body;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`the waypoint is not ready: ${last}; it said:\n${this.lines.slice(-20).join("\n")}`);
  }

  probe(): Promise<Answer> {
    return answerOf((done) => get(`http://127.0.0.1:${this.readinessPort}/healthz/ready`, { agent: false }, done));
  }

  /** On the agent's port, where the process is told to go. */
  agent(method: string, path: string): Promise<Answer> {
    const options = { method, agent: false as const };
    return answerOf((done) => request(`http://127.0.0.1:${this.statsPort}${path}`, options, done).end());
  }

  kill(signal: "SIGTERM" | "SIGKILL" | "SIGINT"): void {
    // Not by the child: on Deno that alone makes its end look like one by the signal.
    process.kill(this.pid, signal);
  }

  exit(timeoutMs = 30_000): Promise<{ readonly code: number | null; readonly signal: string | null }> {
    return within(timeoutMs, "the end of the waypoint", (resolve) => void this.exited.then(resolve));
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGKILL");
    await this.exited;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

type Done = Parameters<typeof get>[2];

/** Status 0: nobody answers. */
function answerOf(send: (done: Done) => ReturnType<typeof get>): Promise<Answer> {
  return new Promise((resolve) => {
    const sent = send((response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => body += text);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.on("error", (error) => resolve({ status: 0, body: error.message }));
    });
    sent.on("error", (error) => resolve({ status: 0, body: error.message }));
  });
}

async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  for (let i = 0; i < count; i++) {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    servers.push(server);
  }
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
