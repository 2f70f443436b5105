/** The test's end of test_ca_server.ts. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { within } from "../../e2e/support/wait.ts";
import type { IstiodLab } from "./lab.ts";
import type { CaBehaviour, CaEvent } from "./test_ca_server.ts";

const NAME = "ca.lab";
let ports = 15100;

export class TestCa {
  /** All it was asked so far. */
  readonly events: CaEvent[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, readonly env: Readonly<Record<string, string>>) {
    this.#child = child;
  }

  /** Starts one beside istiod. `env` points a ztunnel at it. */
  static async start(lab: IstiodLab): Promise<TestCa> {
    const { plane, sandbox } = lab;
    const port = ++ports;
    const certificate = `test-ca-${port}`;
    await plane.pki.issue(certificate, `/CN=${NAME}`, `DNS:${NAME},IP:${plane.ip}`);
    const script = fileURLToPath(new URL("./test_ca_server.ts", import.meta.url));
    const path = (name: string) => plane.pki.path(name);
    const cacerts = join(plane.directory, "istiod/etc/cacerts");
    const [file = "", ...args] = sandbox.command(
      [
        process.execPath,
        "run",
        "--quiet",
        "--no-check",
        "-A",
        script,
        String(port),
        path(`${certificate}.crt`),
        path(`${certificate}.key`),
        cacerts,
      ],
      { node: "control" },
      lab.directory,
    );
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
    const ca = new TestCa(child, {
      CA_ADDRESS: `https://${plane.ip}:${port}`,
      CA_ROOT_CA: path("ca.crt"),
      ALT_CA_HOSTNAME: NAME,
    });
    await within(20_000, "the test CA", (resolve) => {
      createInterface({ input: child.stdout! }).on("line", (line) => {
        const event = JSON.parse(line) as CaEvent;
        if (event.did === "listening") resolve();
        else ca.events.push(event);
      });
    });
    return ca;
  }

  behave(behaviour: CaBehaviour): void {
    this.#child.stdin!.write(`${JSON.stringify(behaviour)}\n`);
  }

  stop(): void {
    this.#child.stdin!.end();
  }
}
