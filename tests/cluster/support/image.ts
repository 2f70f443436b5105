/**
 * Container images from files of this machine, without a registry: one uncompressed layer, in the archive format of `docker save`, which
 * containerd takes from a pipe.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type TarEntry, tarHeader, tarLength, tarPadding, writeTar } from "./tar.ts";

export interface ImageSpec {
  /** With its tag. */
  readonly name: string;
  readonly entries: readonly TarEntry[];
  readonly entrypoint: readonly string[];
  /** Default: root. */
  readonly user?: string;
  readonly workingDirectory?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A program under another or the same path, with the shared libraries that it is linked with. */
export function program(source: string, path = source): TarEntry[] {
  return [file(source, path), ...librariesOf(source)];
}

export function file(source: string, path = source): TarEntry {
  // What is a link on this machine is a file there.
  const real = realpathSync(source);
  return { kind: "file", path, source: real, mode: (statSync(real).mode & 0o111) === 0 ? 0o644 : 0o755 };
}

/** The files of a folder, not those of folders in it. */
export function folder(source: string): TarEntry[] {
  return readdirSync(source, { withFileTypes: true })
    .filter((entry) => entry.isFile() || entry.isSymbolicLink())
    .map((entry) => file(join(source, entry.name)));
}

export function link(path: string, target: string): TarEntry {
  return { kind: "link", path, target };
}

/** A shared library by its name, found where the dynamic linker finds it, with those that it is linked with. */
export function library(name: string): TarEntry[] {
  const known = spawnSync("ldconfig", ["-p"], { encoding: "utf8" }).stdout ?? "";
  const path = new RegExp(`^\\s*${name.replaceAll(".", "\\.")} .*=> (/\\S+)$`, "m").exec(known)?.[1];
  if (path === undefined) throw new Error(`${name} is not on this machine: install the package it comes with`);
  return program(path);
}

function librariesOf(path: string): TarEntry[] {
  const { stdout } = spawnSync("ldd", [path], { encoding: "utf8" });
  return [...(stdout ?? "").matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, library = ""]) => file(library));
}

/** What every image has besides its own. */
const BASE: readonly TarEntry[] = [
  ...["run", "proc", "sys", "dev"].map((path): TarEntry => ({ kind: "directory", path, mode: 0o755 })),
  { kind: "directory", path: "tmp", mode: 0o1777 },
  link("var/run", "/run"),
  text("etc/passwd", "root:x:0:0:root:/:/bin/false\nistio-proxy:x:1337:1337::/:/bin/false\n"),
  text("etc/group", "root:x:0:\nistio-proxy:x:1337:\n"),
  text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

function text(path: string, content: string): TarEntry {
  return { kind: "bytes", path, mode: 0o644, content: Buffer.from(content) };
}

/** Loads the image into the containerd of `address`. */
export async function loadImage(spec: ImageSpec, address: string): Promise<void> {
  const child = spawn("ctr", ["--address", address, "--namespace", "k8s.io", "images", "import", "-"], {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: LOAD_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => said += chunk);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  // A containerd that refuses closes the pipe: its words say why.
  await pipeline(Readable.from(copied(writeImage(spec)), { objectMode: false }), child.stdin).catch(() => {});
  const code = await ended;
  if (code !== 0) throw new Error(`cannot load the image ${spec.name} (${code ?? "killed"}): ${said.trim()}`);
}

const LOAD_TIMEOUT_MS = 60_000;

function* copied(chunks: Iterable<Uint8Array>): Generator<Buffer> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

function* writeImage(spec: ImageSpec): Generator<Uint8Array> {
  const entries = complete([...BASE, ...spec.entries]);
  const layer: TarEntry = { kind: "bytes", path: "layer.tar", mode: 0o644, content: new Uint8Array() };
  const length = tarLength(entries);
  yield tarHeader(layer, length);
  const digest = createHash("sha256");
  for (const chunk of writeTar(entries)) {
    digest.update(chunk);
    yield chunk;
  }
  yield tarPadding(length);
  const config = {
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    rootfs: { type: "layers", diff_ids: [`sha256:${digest.digest("hex")}`] },
    config: {
      Env: Object.entries({ PATH, ...spec.env }).map(([name, value]) => `${name}=${value}`),
      User: spec.user ?? "",
      WorkingDir: spec.workingDirectory ?? "/",
      Entrypoint: spec.entrypoint,
    },
  };
  const manifest = [{ Config: "config.json", RepoTags: [spec.name], Layers: [layer.path] }];
  yield* writeTar([text("config.json", JSON.stringify(config)), text("manifest.json", JSON.stringify(manifest))]);
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Without doubles, and with the directories above each entry before it. Paths lose their first slash. */
function complete(entries: readonly TarEntry[]): TarEntry[] {
  const result = new Map<string, TarEntry>();
  const addParents = (path: string) => {
    const parent = dirname(path);
    if (parent === "." || result.has(parent)) return;
    addParents(parent);
    result.set(parent, { kind: "directory", path: parent, mode: 0o755 });
  };
  for (const entry of entries) {
    const path = entry.path.replace(/^\/+/, "");
    if (result.has(path)) continue;
    addParents(path);
    result.set(path, { ...entry, path });
  }
  return [...result.values()];
}
