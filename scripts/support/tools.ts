/** What the scripts share: where things are, and how a program is run. Works from any directory. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The project's directory. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** A program from node_modules, of the version that the lock file names. */
export function tool(name: "deno" | "bun" | "buf"): string {
  return join(ROOT, "node_modules/.bin", name);
}

export interface RunSettings {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Show what the program prints as it comes. Default true. */
  readonly show?: boolean;
  readonly timeoutMs?: number;
}

export interface RunResult {
  /** 128 + the signal's number, roughly, when it was killed. */
  readonly code: number;
  /** What it printed, both streams as they came. */
  readonly output: string;
}

/** Runs a program to its end. Never throws for what the program does; a missing program is code 127. */
export function run(command: readonly string[], settings: RunSettings = {}): Promise<RunResult> {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(command[0], command.slice(1), {
      cwd: settings.cwd ?? ROOT,
      env: { ...process.env, ...settings.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const timer = settings.timeoutMs === undefined ? undefined : setTimeout(() => {
      output += `\ntimed out after ${settings.timeoutMs} ms\n`;
      child.kill("SIGKILL");
    }, settings.timeoutMs);
    for (const [stream, own] of [[child.stdout, process.stdout], [child.stderr, process.stderr]] as const) {
      stream.setEncoding("utf8");
      stream.on("data", (chunk: string) => {
        output += chunk;
        if (settings.show !== false) own.write(chunk);
      });
    }
    child.on("error", (error) => {
      clearTimeout(timer);
      resolve({ code: 127, output: output + error.message });
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 137, output });
    });
  });
}

/** Files below a directory, relative to the project, sorted. Directories that only hold generated things are left out. */
export function filesBelow(directory: string, suffix: string): string[] {
  const skipped = new Set(["node_modules", ".git", "dist", "corpus"]);
  const found: string[] = [];
  const visit = (path: string) => {
    for (const entry of readdirSync(join(ROOT, path), { withFileTypes: true })) {
      const child = `${path}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!skipped.has(entry.name)) visit(child);
      } else if (child.endsWith(suffix)) found.push(child);
    }
  };
  if (existsSync(join(ROOT, directory))) visit(directory);
  return found.sort();
}
