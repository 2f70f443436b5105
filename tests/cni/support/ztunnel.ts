/** The ztunnel of a node: one real ambit ztunnel under the real istiod, on the other end of the agent's socket. */
import { mkdir, writeFile } from "node:fs/promises";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { httpOver, type HttpResponse } from "../../e2e/support/http.ts";
import { parseMetrics } from "../../e2e/support/metrics.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { ZtunnelProcess } from "../../e2e/support/ztunnel_process.ts";
import { ambitOf } from "../../istiod/support/builds.ts";
import { SYSTEM_NAMESPACE } from "../../istiod/support/control_plane.ts";
import { ztunnelEnvironment } from "../../istiod/support/node.ts";
import { ztunnelPodObject } from "../../istiod/support/objects.ts";
import type { CniNode } from "./node.ts";

const START_TIMEOUT_MS = 30_000;

export class Ztunnel {
  process!: ZtunnelProcess;

  readonly #namespaceFd: number;

  private constructor(
    readonly node: CniNode,
    readonly podName: string,
    readonly directory: string,
    readonly place: string,
  ) {
    this.#namespaceFd = node.lab.sandbox.openNetns({ node: place });
  }

  /**
   * Its pod and its files; {@link start} starts it. `suffix` tells a second one of the same node, `place` is where its own ports do
   * not meet those of the first.
   */
  static async create(node: CniNode, suffix = "", place = node.name): Promise<Ztunnel> {
    const { lab } = node;
    const name = `ztunnel-${node.name}${suffix}`;
    const directory = join(lab.directory, "z", name);
    for (const path of ["var/run/secrets/istio", "var/run/secrets/tokens"]) {
      await mkdir(join(directory, path), { recursive: true });
    }
    const { metadata } = await lab.plane.api.apply(ztunnelPodObject(name, node.name, node.ip));
    const token = await lab.plane.api.createToken(SYSTEM_NAMESPACE, "ztunnel", { name, uid: metadata.uid! });
    await writeFile(join(directory, "var/run/secrets/tokens/istio-token"), token);
    await writeFile(join(directory, "var/run/secrets/istio/root-cert.pem"), await lab.rootCertificate());
    return new Ztunnel(node, name, directory, place);
  }

  get running(): boolean {
    return this.process?.running ?? false;
  }

  /** Starts it; it is ready when an agent has told it all pods. */
  async start(): Promise<void> {
    const { lab, name, ip, build, directory } = this.node;
    const env = ztunnelEnvironment({
      istiodIp: lab.plane.ip,
      podName: this.podName,
      nodeName: name,
      ip,
      socket: join(directory, "ztunnel/ztunnel.sock"),
    });
    const command = [...ambitOf(build), "proxy", "ztunnel"];
    this.process = await ZtunnelProcess.start(lab.sandbox, this.podName, env, command, this.directory, {
      node: this.place,
    });
  }

  async ready(timeoutMs = START_TIMEOUT_MS): Promise<void> {
    await eventually(async () => {
      if (!this.running) throw new Error(`${this.podName} ended: ${this.process.lines.slice(-12).join("\n")}`);
      const { status, body } = await this.http(15021, "/healthz/ready");
      if (status !== 200) throw new Error(`${this.podName}: ${status} ${body.trim()}`);
    }, timeoutMs);
  }

  async http(port: number, path: string): Promise<HttpResponse> {
    return httpOver(await this.node.lab.sockets.connect(this.#namespaceFd, "127.0.0.1", port), path);
  }

  /** The uids of the pods it serves. */
  async served(): Promise<readonly string[]> {
    const dump = JSON.parse((await this.http(15000, "/config_dump")).body) as {
      readonly workloadState: Readonly<Record<string, { readonly state: string }>>;
    };
    return Object.entries(dump.workloadState).filter(([, { state }]) => state === "Up").map(([uid]) => uid);
  }

  async metric(name: string): Promise<number> {
    const samples = parseMetrics((await this.http(15020, "/metrics")).body);
    return samples.filter((sample) => sample.name === name).reduce((sum, { value }) => sum + value, 0);
  }

  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    if (!this.running) return;
    this.process.kill(signal);
    await this.process.exit(40_000);
  }

  close(): void {
    closeDescriptor(this.#namespaceFd);
    if (this.process === undefined) return;
    writeFileSync(join(this.node.lab.directory, "log", `${this.podName}.log`), this.process.lines.join("\n"));
  }
}
