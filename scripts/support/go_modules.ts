/**
 * Programs that tests need and that are built from Go modules: where they are kept outside the tree, and how one module is built. What
 * a module yields depends on its files, the programs asked of it and Go's version only, so that is the key under which it is kept;
 * it appears whole, by a rename, or not at all.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { ROOT, run } from "./tools.ts";

/** What the go.mod files say. */
const GO_MINIMUM = [1, 26] as const;
/** A cold build of the largest module takes about 8 minutes on two cores that have nothing else to do. */
const BUILD_TIMEOUT_MS = 28 * 60_000;

export interface GoModule {
  /** How it is called where it is kept, and in what is said. */
  readonly name: string;
  readonly directory: string;
  /** Package to the program's name. */
  readonly programs: Readonly<Record<string, string>>;
  /** Folders of the modules it depends on that hold files the tests need: what is taken from them, by its new name. Folders are taken whole. */
  readonly files?: Readonly<Record<string, (directory: string) => Readonly<Record<string, string>>>>;
}

/** Where each module's programs and files are; undefined when something is not built yet. Rejects when Go is missing or too old. */
export async function findModules(modules: readonly GoModule[]): Promise<readonly string[] | undefined> {
  const version = await goVersion();
  const places = modules.map((module) => placeOf(module, version));
  return places.every((place) => existsSync(place)) ? places : undefined;
}

/** Builds what is missing, one module after the other. Rejects with the reason. */
export async function buildModules(
  modules: readonly GoModule[],
  say: (line: string) => void,
): Promise<readonly string[]> {
  const version = await goVersion();
  const places: string[] = [];
  for (const module of modules) {
    const place = placeOf(module, version);
    places.push(place);
    if (existsSync(place)) {
      say(`${module.name}: is there, ${place}`);
      continue;
    }
    const started = performance.now();
    say(`${module.name}: go build of ${Object.values(module.programs).join(", ")} (minutes when Go's cache is cold)`);
    await buildModule(module, place);
    say(`${module.name}: built in ${Math.round((performance.now() - started) / 1000)} s, ${place}`);
  }
  return places;
}

async function buildModule(module: GoModule, place: string): Promise<void> {
  const cwd = module.directory;
  mkdirSync(cacheDirectory(), { recursive: true });
  const work = mkdtempSync(`${place}.unfinished-`);
  try {
    await go(["build", "-buildvcs=false", "-ldflags=-s -w", "-o", `${work}/`, ...Object.keys(module.programs)], cwd);
    for (const program of Object.values(module.programs)) {
      if (!existsSync(join(work, program))) throw new Error(`go build of ${module.name} made no ${program}`);
    }
    for (const [dependency, pick] of Object.entries(module.files ?? {})) {
      const directory = (await go(["list", "-m", "-f", "{{.Dir}}", dependency], cwd)).trim();
      for (const [name, source] of Object.entries(pick(directory))) copyTree(source, join(work, name));
    }
    renameSync(work, place);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    // Somebody else may have built the same meanwhile.
    if (!existsSync(place)) throw error;
  }
}

/** Go keeps its modules read-only; the copy is not. */
function copyTree(source: string, target: string): void {
  if (!statSync(source).isDirectory()) {
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(source, target);
    return;
  }
  for (const path of filesOf(source)) copyTree(path, join(target, path.slice(source.length)));
}

async function go(args: readonly string[], cwd: string): Promise<string> {
  // Nothing of the machine is linked in, so that the programs run wherever they are carried.
  const env = { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
  const { code, output } = await run(["go", ...args], {
    cwd,
    env,
    show: args[0] === "build",
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  if (code === 0) return output;
  throw new Error(`"go ${args.join(" ")}" failed in ${cwd}: ${output.trim().slice(-2000) || `exit code ${code}`}`);
}

async function goVersion(): Promise<string> {
  // Where a go.mod can name another toolchain than the machine's.
  const cwd = join(ROOT, "tests/istiod/go");
  const { code, output } = await run(["go", "env", "GOVERSION"], { show: false, cwd });
  const hint = `install Go ${GO_MINIMUM.join(".")} or newer (https://go.dev/dl/) and put it on the PATH`;
  if (code !== 0) throw new Error(`cannot run go, which builds the control plane for the tests: ${hint}`);
  const match = /^go(\d+)\.(\d+)/.exec(output.trim());
  const [major, minor] = [Number(match?.[1]), Number(match?.[2])];
  const fresh = major > GO_MINIMUM[0] || (major === GO_MINIMUM[0] && minor >= GO_MINIMUM[1]);
  if (!fresh) throw new Error(`${output.trim()} is too old to build the control plane for the tests: ${hint}`);
  return output.trim();
}

function cacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base !== undefined && base !== "" ? base : join(homedir(), ".cache"), "ambit-istiod");
}

function placeOf(module: GoModule, version: string): string {
  const hash = createHash("sha256").update(`${version} ${process.arch}\n${Object.keys(module.programs).join(" ")}\n`);
  for (const path of filesOf(module.directory)) hash.update(readFileSync(path));
  return join(cacheDirectory(), `${module.name}-${hash.digest("hex").slice(0, 16)}`);
}

/** The files below a directory, in a fixed order. */
function filesOf(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => entry.isDirectory() ? filesOf(join(directory, entry.name)) : [join(directory, entry.name)]);
}
