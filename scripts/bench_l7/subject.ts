/** What is measured: ambit from source and compiled, and Envoy, each started in the waypoint's pod and ended again. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ambitOf } from "../../tests/istiod/support/builds.ts";
import type { Program } from "../../tests/istiod/support/program.ts";
import { installEnvoy } from "../bench/envoy_pair.ts";
import { envoyBootstrap } from "./envoy_bootstrap.ts";
import { type BenchMesh, NAMESPACE, pin, PROXY_CORE } from "./mesh.ts";

export const SUBJECTS = ["envoy", "ambit-deno", "ambit-bun", "ambit-compiled"] as const;
export type SubjectName = typeof SUBJECTS[number];

const READY_TIMEOUT_MS = 30_000;
/** What Istio's rendered Deployment gives the container. */
const ARGUMENTS = [
  "proxy",
  "waypoint",
  "--domain",
  `${NAMESPACE}.svc.cluster.local`,
  "--serviceCluster",
  `waypoint.${NAMESPACE}`,
  "--proxyLogLevel",
  "warning",
  "--log_output_level",
  "default:info",
];

export interface Running {
  readonly name: SubjectName;
  readonly pid: number;
  /** From the start of the process to the first answer that it is ready. */
  readonly readyMs: number;
  stop(): Promise<void>;
}

/** Starts one in the waypoint's pod and pins it once it is ready; Envoy gets `dump`, the configuration that ambit got from istiod. */
export async function startSubject(mesh: BenchMesh, name: SubjectName, dump: string): Promise<Running> {
  const began = performance.now();
  const program = name === "envoy" ? await startEnvoy(mesh, dump) : await startAmbit(mesh, name);
  const [path, port] = name === "envoy" ? ["/ready", 15000] as const : ["/healthz/ready", 15021] as const;
  const deadline = began + READY_TIMEOUT_MS;
  for (;;) {
    try {
      mesh.admin(path, port);
      break;
    } catch {
      if (!program.running || performance.now() > deadline) {
        throw new Error(`${name} did not get ready:\n${program.log.slice(-2000)}`);
      }
      await delay(10);
    }
  }
  const readyMs = performance.now() - began;
  pin(program.pid, PROXY_CORE);
  return { name, pid: program.pid, readyMs, stop: () => program.end("SIGKILL") };
}

function startAmbit(mesh: BenchMesh, name: Exclude<SubjectName, "envoy">): Promise<Program> {
  const { pod } = mesh.waypoint;
  const build = name === "ambit-deno" ? "deno" : name === "ambit-bun" ? "bun" : "compiled";
  return mesh.run(name, pod, undefined, [...ambitOf(build), ...ARGUMENTS], {
    POD_NAME: pod.name,
    POD_NAMESPACE: NAMESPACE,
    INSTANCE_IP: pod.ip(),
    SERVICE_ACCOUNT: "waypoint",
    CA_ADDR: "istiod.istio-system.svc:15012",
    TRUST_DOMAIN: "cluster.local",
    PILOT_CERT_PROVIDER: "istiod",
    PROXY_CONFIG: "{}",
    ISTIO_META_CLUSTER_ID: "Kubernetes",
    ISTIO_META_NODE_NAME: "b",
    // One worker, as Envoy's --concurrency 1.
    ISTIO_CPU_LIMIT: "1",
  }, mesh.directory);
}

async function startEnvoy(mesh: BenchMesh, dump: string): Promise<Program> {
  const { pod } = mesh.waypoint;
  const file = join(mesh.directory, "envoy.json");
  const tls = await mesh.lab.plane.ca.issue(pod.identity);
  writeFileSync(file, JSON.stringify(envoyBootstrap(dump, tls, 15000)));
  const flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
  return await mesh.run("envoy", pod, undefined, [installEnvoy(), "-c", file, ...flags]);
}
