/**
 * What is around the waypoint under test: a real istiod and API server, two nodes with an ambit ztunnel each, a client and a server pod, and the waypoint's
 * own pod, in which ambit and Envoy take turns.
 *
 *   client → its ztunnel ══ HBONE ══ 15008 [waypoint] ══ HBONE ══ the server's ztunnel → server :8080, :8081
 */
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import type { Build } from "../../tests/istiod/support/builds.ts";
import { IstiodLab } from "../../tests/istiod/support/lab.ts";
import type { LabNode } from "../../tests/istiod/support/node.ts";
import { endpointSliceObject } from "../../tests/istiod/support/objects.ts";
import type { LabPod } from "../../tests/istiod/support/pod.ts";
import { Program } from "../../tests/istiod/support/program.ts";
import { Waypoint } from "../../tests/istiod/support/waypoint.ts";
import { ROOT, tool } from "./paths.ts";

export const NAMESPACE = "demo";
/** The pod behind all services. */
const SERVER = "server";
/** The waypoint alone, and everything else. */
export const PROXY_CORE = 1;
export const LOAD_CORE = 0;
/** Port of the service by protocol of the client; the server speaks the same one. */
export const PORTS = { http1: 80, http2: 81 } as const;
export type Protocol = keyof typeof PORTS;

const TARGET_PORTS = { http1: 8080, http2: 8081 } as const;
const NICENESS = "-15";

export class BenchMesh {
  /** Addresses of the services, by name. */
  readonly #vips = new Map<string, string>();

  private constructor(
    readonly lab: IstiodLab,
    readonly waypoint: Waypoint,
    readonly client: LabPod,
    readonly server: LabPod,
    /** Root of the file system of the waypoint's pod. */
    readonly directory: string,
  ) {}

  /** `build` is that of the ztunnels. */
  static async start(build: Build): Promise<BenchMesh> {
    const lab = await IstiodLab.start();
    try {
      return await BenchMesh.#fill(lab, build);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  static async #fill(lab: IstiodLab, build: Build): Promise<BenchMesh> {
    const [near, far] = [await lab.addNode(build, "a"), await lab.addNode(build, "b")] as [LabNode, LabNode];
    await Promise.all([near.start(), far.start()]);
    await lab.addNamespace(NAMESPACE);
    const waypoint = await Waypoint.create(lab, { name: "waypoint", namespace: NAMESPACE, node: far });
    const [client, server] = await lab.addPods(
      { name: "client", namespace: NAMESPACE, node: near },
      { name: SERVER, namespace: NAMESPACE, node: far },
    ) as [LabPod, LabPod];
    const mesh = new BenchMesh(lab, waypoint, client, server, join(lab.directory, "waypoint"));
    await mesh.#writeFiles();
    await mesh.#startBackends();
    for (const node of [near, far]) pin(node.ztunnel.pid, LOAD_CORE);
    return mesh;
  }

  async #writeFiles(): Promise<void> {
    const { lab, waypoint, directory } = this;
    for (const path of ["var/run/secrets/istio", "var/run/secrets/tokens", "etc/istio/pod"]) {
      await mkdir(join(directory, path), { recursive: true });
    }
    const { name, uid } = waypoint.pod;
    const token = await lab.plane.api.createToken(NAMESPACE, "waypoint", { name, uid });
    await writeFile(join(directory, "var/run/secrets/tokens/istio-token"), token);
    await writeFile(join(directory, "var/run/secrets/istio/root-cert.pem"), await lab.rootCertificate());
    await writeFile(join(directory, "etc/istio/pod/labels"), 'gateway.networking.k8s.io/gateway-name="waypoint"\n');
    await writeFile(join(directory, "etc/istio/pod/annotations"), "");
  }

  async #startBackends(): Promise<void> {
    const scripts = { http1: "bench/backend.ts", http2: "bench_l7/backend_http2.ts" };
    for (const protocol of ["http1", "http2"] as const) {
      const listen = `0.0.0.0:${TARGET_PORTS[protocol]}`;
      const command = [tool("bun"), join(ROOT, "scripts", scripts[protocol]), "--listen", listen];
      const backend = await this.run(`backend-${protocol}`, this.server, LOAD_CORE, command);
      await backend.ready(() => Promise.resolve(backend.log.includes("listening")), 10_000);
    }
  }

  /** Starts a program in a pod, on one core (undefined: any), before whatever else the machine does. */
  run(
    name: string,
    pod: LabPod,
    core: number | undefined,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
    workingDirectory = this.lab.directory,
  ): Promise<Program> {
    const pinned = core === undefined ? [] : ["taskset", "-c", String(core)];
    return Program.start(this.lab.sandbox, {
      name,
      // A session of its own, because the kernel weighs sessions against each other (sched(7), autogroup).
      command: ["nice", "-n", NICENESS, ...pinned, ...command],
      place: { pod: pod.name, namespace: pod.namespace },
      workingDirectory,
      logPath: join(this.lab.directory, "log", `${name}.log`),
      env,
    });
  }

  /** A service in front of the server, by way of the waypoint. */
  async addService(name: string): Promise<void> {
    this.#vips.set(name, await addService(this.lab, this.server, name));
  }

  /** "ip:port" */
  target(service: string, protocol: Protocol): string {
    return `${this.#vips.get(service)}:${PORTS[protocol]}`;
  }

  /** What curl in the client's pod says: status of one request. */
  status(service: string, protocol: Protocol, headers: readonly string[] = []): string {
    const url = `http://${this.target(service, protocol)}/`;
    const version = protocol === "http2" ? ["--http2-prior-knowledge"] : [];
    const flags = headers.flatMap((header) => ["-H", header]);
    const curl = ["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", ...version, ...flags, url];
    const place = { pod: this.client.name, namespace: NAMESPACE };
    const [file = "", ...args] = this.lab.sandbox.command(curl, place, "/tmp");
    try {
      return execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    } catch {
      return "none";
    }
  }

  /** A page of the program in the waypoint's pod, by its loopback. */
  admin(path: string, port = 15000): string {
    const curl = ["curl", "-sf", "-m", "20", `http://127.0.0.1:${port}${path}`];
    const place = { pod: this.waypoint.pod.name, namespace: NAMESPACE };
    const [file = "", ...args] = this.lab.sandbox.command(curl, place, "/tmp");
    return execFileSync(file, args, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] });
  }

  close(keep = false): Promise<void> {
    return this.lab.close(keep);
  }
}

async function addService(lab: IstiodLab, server: LabPod, name: string): Promise<string> {
  const names = { http1: "http", http2: "http2" } as const;
  const facts = { name, namespace: NAMESPACE, ports: { 80: 8080, 81: 8081 } };
  const protocols = ["http1", "http2"] as const;
  const vip = await lab.addService(
    {
      ...facts,
      selector: { app: SERVER },
      labels: { "istio.io/use-waypoint": "waypoint" },
      more: {
        ports: protocols.map((protocol) => ({
          name: names[protocol],
          port: PORTS[protocol],
          targetPort: TARGET_PORTS[protocol],
        })),
      },
    } as Parameters<IstiodLab["addService"]>[0],
  );
  const slice = endpointSliceObject(facts as Parameters<typeof endpointSliceObject>[0], [
    { name: server.name, uid: server.uid, node: "b", ip: server.ip() },
  ]);
  const ports = protocols.map((protocol) => ({ name: names[protocol], port: TARGET_PORTS[protocol] }));
  await lab.apply({ ...slice, ports } as Parameters<IstiodLab["apply"]>[0]);
  return vip;
}

/** All threads that it has, and those that they will start. */
export function pin(pid: number, core: number): void {
  execFileSync("taskset", ["-apc", String(core), String(pid)], { env: { PATH: process.env.PATH }, stdio: "ignore" });
}
