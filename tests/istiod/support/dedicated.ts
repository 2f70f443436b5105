/** A ztunnel in dedicated mode: one pod's own, in that pod's network namespace, with that pod's own token. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tool } from "../../../src/local/run_tool.ts";
import { httpOver, type HttpResponse } from "../../e2e/support/http.ts";
import { parseMetrics, type Traffic, traffic } from "../../e2e/support/metrics.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { ZtunnelProcess } from "../../e2e/support/ztunnel_process.ts";
import { ambitOf, type Build } from "./builds.ts";
import { ISTIOD_NAME, ISTIOD_PORT } from "./control_plane.ts";
import type { LabPod, ProxyView } from "./pod.ts";

const START_TIMEOUT_MS = 30_000;

export class DedicatedZtunnel implements ProxyView {
  private constructor(readonly pod: LabPod, readonly ztunnel: ZtunnelProcess) {}

  /** Starts one for a captured pod that no node's ztunnel was told of. Resolves when it is ready. */
  static async start(pod: LabPod, build: Build): Promise<DedicatedZtunnel> {
    const dedicated = await DedicatedZtunnel.launch(pod, build);
    await eventually(async () => {
      if (!dedicated.ztunnel.running) throw new Error(`it ended:\n${dedicated.ztunnel.lines.join("\n")}`);
      const { status, body } = await dedicated.http(15021, "/healthz/ready");
      if (status !== 200) {
        throw new Error(`${pod.name}: ${status} ${body}\n${dedicated.ztunnel.lines.slice(-12).join("\n")}`);
      }
    }, START_TIMEOUT_MS);
    pod.dedicated = dedicated;
    return dedicated;
  }

  static async launch(pod: LabPod, build: Build): Promise<DedicatedZtunnel> {
    const { mesh } = pod;
    const place = { pod: pod.name, namespace: pod.namespace };
    // Its calls to istiod are not the pod's traffic: whoever injects such a proxy leaves them out of the redirection.
    const rule = `tcp dport ${ISTIOD_PORT} accept`;
    await tool(
      mesh.sandbox.command(
        ["nft", "insert", "rule", "inet", "istio-ambient-nat", "istio-output", ...rule.split(" ")],
        place,
      ),
    );
    const directory = join(mesh.directory, "dedicated", `${pod.namespace}.${pod.name}`);
    for (const path of ["var/run/secrets/istio", "var/run/secrets/tokens"]) {
      await mkdir(join(directory, path), { recursive: true });
    }
    const token = await mesh.plane.api.createToken(pod.namespace, pod.serviceAccount, pod);
    await writeFile(join(directory, "var/run/secrets/tokens/istio-token"), token);
    await writeFile(join(directory, "var/run/secrets/istio/root-cert.pem"), await mesh.rootCertificate());
    const istiod = `https://${mesh.plane.ip}:${ISTIOD_PORT}`;
    const ztunnel = await ZtunnelProcess.start(
      mesh.sandbox,
      pod.name,
      {
        PROXY_MODE: "dedicated",
        PROXY_WORKLOAD_INFO: `${pod.namespace}/${pod.name}/${pod.serviceAccount}`,
        PACKET_MARK: "1337",
        CA_ADDRESS: istiod,
        XDS_ADDRESS: istiod,
        ALT_XDS_HOSTNAME: ISTIOD_NAME,
        ALT_CA_HOSTNAME: ISTIOD_NAME,
        POD_NAME: pod.name,
        POD_NAMESPACE: pod.namespace,
        NODE_NAME: pod.facts.node,
        INSTANCE_IP: pod.ip(),
        SERVICE_ACCOUNT: pod.serviceAccount,
        ISTIO_META_DNS_CAPTURE: "false",
        RUST_LOG: "info",
        ZTUNNEL_WORKER_THREADS: "1",
        TMPDIR: "/tmp",
      },
      [...ambitOf(build), "proxy", "ztunnel"],
      directory,
      place,
    );
    return new DedicatedZtunnel(pod, ztunnel);
  }

  async traffic(labels: Readonly<Record<string, string>>): Promise<Traffic> {
    return traffic(parseMetrics((await this.http(15020, "/metrics")).body), labels);
  }

  async http(port: number, path: string): Promise<HttpResponse> {
    return httpOver(await this.pod.connect("127.0.0.1", port), path);
  }

  async stop(): Promise<void> {
    if (this.ztunnel.running) this.ztunnel.kill("SIGKILL");
    await this.ztunnel.exit();
  }
}
