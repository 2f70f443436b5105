/**
 * Builds the single binary with Bun: dist/ambit, or dist/ambit-arm64 with `--arch=arm64` (cross-compiled, not run here).
 * It reads no .env and no bunfig.toml of the directory it runs in. `deno task build`, `deno task build:arm64`.
 */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { gunzipSync } from "node:zlib";
import { filesBelow, ROOT, run, tool } from "./support/tools.ts";

export type Arch = "x64" | "arm64";

/** Modules that start something of their own: the program, and the entries of data-plane workers. */
function entries(): string[] {
  return ["mod.ts", ...filesBelow("src/roles", "worker.ts")];
}

const OTHER_ARCH_CACHE = ".cache/bun";

function buildCommand(arch: Arch, outfile: string, revision: string, baseBinary: string | undefined): string[] {
  return [
    tool("bun"),
    "build",
    "--compile",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    "--no-compile-autoload-tsconfig",
    "--no-compile-autoload-package-json",
    `--target=bun-linux-${arch}`,
    ...(baseBinary === undefined ? [] : [`--compile-executable-path=${baseBinary}`]),
    // A role loads its own part only, and that compiled: 9 MB less of an idle ztunnel, and a start of 10 ms instead of 80.
    "--splitting",
    "--format=esm",
    "--bytecode",
    "--minify-syntax",
    "--minify-whitespace",
    "--keep-names",
    "--sourcemap=none",
    // Flat: `new URL("./x_worker.ts", import.meta.url)` of a module in src/roles finds the worker in the binary too.
    "--entry-naming=[name].[ext]",
    `--define=AMBIT_GIT_REVISION=${JSON.stringify(revision)}`,
    `--define=AMBIT_BUILD_PROFILE="release"`,
    `--outfile=${outfile}`,
    ...entries(),
  ];
}

async function gitRevision(): Promise<string> {
  const { code, output } = await run(["git", "describe", "--always", "--dirty", "--abbrev=12"], { show: false });
  return code === 0 ? output.trim() : "unknown";
}

/**
 * The Bun of another architecture, of the version and with the checksum that package-lock.json names. npm does
 * not install packages of other platforms, and Bun's own download is not checked against a lock.
 */
async function otherBun(arch: Arch): Promise<string> {
  const name = arch === "arm64" ? "@oven/bun-linux-aarch64" : "@oven/bun-linux-x64";
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8"));
  const { version, integrity } = lock.packages[`node_modules/${name}`];
  const directory = join(ROOT, OTHER_ARCH_CACHE, `${arch}-${version}`);
  const binary = join(directory, "bun");
  if (existsSync(binary)) return binary;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const pack = await run(["npm", "pack", "--json", `--pack-destination=${directory}`, `${name}@${version}`], {
    show: false,
  });
  if (pack.code !== 0) throw new Error(`cannot fetch ${name}@${version}: ${pack.output.trim()}`);
  const file = /"filename":\s*"([^"]+)"/.exec(pack.output)?.[1].replace("@", "").replace("/", "-");
  if (file === undefined) throw new Error(`npm pack did not say where ${name} is`);
  const archive = readFileSync(join(directory, file));
  const [algorithm, expected] = integrity.split("-", 2);
  const actual = createHash(algorithm).update(archive).digest("base64");
  if (actual !== integrity.slice(algorithm.length + 1)) {
    throw new Error(`${name}@${version} has the checksum ${actual}, package-lock.json says ${expected}`);
  }
  writeFileSync(binary, readFromTar(gunzipSync(archive), "package/bin/bun"));
  chmodSync(binary, 0o755);
  rmSync(join(directory, file));
  return binary;
}

/** One file of a tar archive (POSIX ustar: 512-byte headers, name at 0, octal size at 124). */
function readFromTar(tar: Uint8Array, wanted: string): Uint8Array {
  const text = new TextDecoder();
  for (let at = 0; at + 512 <= tar.length;) {
    const name = text.decode(tar.subarray(at, at + 100)).replace(/\0.*$/s, "");
    const size = parseInt(text.decode(tar.subarray(at + 124, at + 136)), 8);
    if (name === "" || Number.isNaN(size)) break;
    if (name === wanted) return tar.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  throw new Error(`the archive has no ${wanted}`);
}

/** @throws Error when the bundler fails; its own message is on stderr. */
export async function build(arch: Arch, outfile: string): Promise<void> {
  const base = arch === hostArch() ? undefined : await otherBun(arch);
  const { code, output } = await run(buildCommand(arch, outfile, await gitRevision(), base), { show: false });
  if (code !== 0) throw new Error(`bun build failed:\n${output}`);
}

export function hostArch(): Arch {
  return process.arch === "arm64" ? "arm64" : "x64";
}

if (import.meta.main) {
  const arch = process.argv.find((argument) => argument.startsWith("--arch="))?.slice("--arch=".length) ?? hostArch();
  if (arch !== "x64" && arch !== "arm64") {
    console.error(`build: --arch must be x64 or arm64, is ${arch}`);
    process.exit(2);
  }
  const outfile = arch === hostArch() ? "dist/ambit" : `dist/ambit-${arch}`;
  mkdirSync(join(ROOT, "dist"), { recursive: true });
  try {
    await build(arch, join(ROOT, outfile));
  } catch (error) {
    console.error(`build: ${(error as Error).message}`);
    process.exit(1);
  }
  console.log(`build: ${outfile}, ${(statSync(join(ROOT, outfile)).size / 1e6).toFixed(1)} MB`);
  if (arch !== hostArch()) {
    console.log(`build: cross-compiled for ${arch}; it was not run on this ${hostArch()} machine`);
  }
}
