/** What a reader must know about the machine to judge a figure. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";

export interface Machine {
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly system: string;
  readonly openssl: string;
}

export function describeMachine(): Machine {
  return {
    kernel: release(),
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 1e9),
    system: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux",
    openssl: versionOf("openssl", ["version"]),
  };
}

/** First line that a program says about its version. */
export function versionOf(program: string, args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8" }).trim().split("\n")[0];
}
