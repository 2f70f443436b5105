/**
 * Runs every case of h2spec, strict ones included, against a server made of our HTTP/2 codec, on Deno and on Bun.
 * Exits 0 only if all 146 cases passed on both.
 *
 * h2spec is built with Go into the user's cache, with its dependencies pinned. `--list` shows each case.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Cases of h2spec 2.2.1 with `--strict`; without it one of them is left out. */
const EXPECTED_CASES = 146;
const RUN_TIMEOUT_MS = 300_000;
const START_TIMEOUT_MS = 60_000;

/**
 * The newest release that a Go module can name (later tags lack the /v2 path), and versions it is known to work with: it
 * has no go.mod of its own.
 */
const GO_MOD = `module ambit-h2spec

go 1.22

require (
	github.com/fatih/color v1.19.0
	github.com/spf13/cobra v1.10.2
	github.com/summerwind/h2spec v2.2.1+incompatible
	golang.org/x/net v0.62.0
)
`;
const GO_PACKAGE = "github.com/summerwind/h2spec/cmd/h2spec";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SERVER = join(ROOT, "tests/interop/h2spec_server.ts");
const RUNTIMES: readonly (readonly [name: string, command: readonly string[]])[] = [
  ["Deno", ["deno", "run", "-A"]],
  ["Bun", ["bun", "run"]],
];

function findGo(): string {
  for (const go of ["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"]) {
    if (spawnSync(go, ["version"], { stdio: "ignore" }).status === 0) return go;
  }
  throw new Error(
    "h2spec is built with Go, which is not installed: apt-get install golang-go, or see https://go.dev/dl",
  );
}

/** Path of the h2spec binary, built on first use. */
function installH2spec(): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const dir = join(cache, "ambit", "h2spec-2.2.1-strict");
  const binary = join(dir, "h2spec");
  if (existsSync(binary)) return binary;
  const go = findGo();
  mkdirSync(dir, { recursive: true });
  process.stderr.write(`building h2spec into ${dir}\n`);
  writeFileSync(join(dir, "go.mod"), GO_MOD);
  const env = { ...process.env, GOFLAGS: "-mod=mod" };
  execFileSync(go, ["build", "-o", binary, GO_PACKAGE], { cwd: dir, env, stdio: "inherit" });
  return binary;
}

interface Result {
  readonly passed: number;
  readonly skipped: number;
  readonly failed: number;
  readonly output: string;
}

/** Starts the server on a runtime, runs h2spec against it, and stops the server. */
async function runOn(command: readonly string[], h2spec: string): Promise<Result> {
  const [program, ...args] = command;
  const local = join(ROOT, "node_modules/.bin", program);
  const server = spawn(existsSync(local) ? local : program, [...args, SERVER], {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "inherit"],
  });
  try {
    const port = await firstLine(server.stdout);
    const run = spawnSync(h2spec, ["--strict", "--host", "127.0.0.1", "--port", port], {
      encoding: "utf8",
      timeout: RUN_TIMEOUT_MS,
    });
    const output = run.stdout + run.stderr;
    const counts = /(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed/.exec(output);
    if (counts === null) throw new Error(`h2spec did not finish:\n${output}`);
    return { passed: Number(counts[2]), skipped: Number(counts[3]), failed: Number(counts[4]), output };
  } finally {
    // Ends the server itself, also where `server` is only a wrapper around it.
    server.stdin.end();
  }
}

function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the server did not start in time")), START_TIMEOUT_MS);
    const lines = createInterface({ input: stream });
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      lines.close();
      act();
    };
    lines.once("line", (line) => settle(() => resolve(line)));
    stream.once("end", () => settle(() => reject(new Error("the server ended before it listened"))));
  });
}

const h2spec = installH2spec();
let good = true;
for (const [name, command] of RUNTIMES) {
  const result = await runOn(command, h2spec);
  const complete = result.passed === EXPECTED_CASES && result.failed === 0 && result.skipped === 0;
  if (!complete || process.argv.includes("--list")) process.stdout.write(result.output);
  process.stdout.write(
    `h2spec on ${name}: ${result.passed} of ${EXPECTED_CASES} passed, ${result.failed} failed, ${result.skipped} skipped\n`,
  );
  good &&= complete;
}
process.exit(good ? 0 : 1);
