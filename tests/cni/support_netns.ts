/** A network namespace for tests, held by a process of its own; tools run in it at once, and fail loudly. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";

export class Namespace {
  private constructor(readonly pid: number, readonly path: string, readonly holder: ChildProcess) {}

  static async create(): Promise<Namespace> {
    const holder = spawn("unshare", ["--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep 600"]);
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once("data", () => resolve());
      holder.once("error", reject);
      holder.once("exit", (code) => reject(new Error(`unshare ended with ${code}`)));
    });
    const { pid } = holder;
    if (pid === undefined) throw new Error("unshare has no process");
    return new Namespace(pid, `/proc/${pid}/ns/net`, holder);
  }

  run(...command: string[]): string {
    return this.runWith("", ...command);
  }

  runWith(input: string, ...command: string[]): string {
    return execFileSync("nsenter", [`--net=${this.path}`, ...command], { input, encoding: "utf8", stdio: "pipe" });
  }

  /** A pair of interfaces between this namespace and another one. */
  link(name: string, other: Namespace, otherName: string): void {
    this.run("ip", "link", "add", name, "type", "veth", "peer", "name", otherName, "netns", String(other.pid));
    this.run("ip", "link", "set", name, "up");
    other.run("ip", "link", "set", otherName, "up");
  }

  close(): void {
    this.holder.kill("SIGKILL");
  }
}
