/**
 * This process' own /etc/resolv.conf and /etc/hosts (resolv.conf(5), hosts(5)), read again when they change. One per worker. What
 * cannot be read counts as empty.
 */
import { readFileSync, statSync } from "node:fs";
import { canonicalIp } from "../../mesh/ip.ts";
import { parseName } from "../../protocol/dns/name.ts";

export interface ResolvConf {
  /** Canonical addresses, in order. */
  readonly servers: readonly string[];
  /** Lower-case names without the final dot. */
  readonly search: readonly string[];
  /** A name with fewer dots is tried with the search domains first. */
  readonly ndots: number;
}

/** Lower-case name to canonical addresses, in the file's order. */
export type Hosts = ReadonlyMap<string, readonly string[]>;

/** What libc uses (MAXNS). */
const MAX_SERVERS = 3;
const MAX_SEARCH = 32;
const MAX_NDOTS = 15;
/** Larger files are no configuration but a mistake; they would be parsed in the data path. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;
/** A file is looked at this often at most. */
const LOOK_MS = 5_000;

export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = [];
  let search: string[] = [];
  let ndots = 1;
  for (const line of text.split("\n")) {
    const [keyword, ...values] = line.replace(/[#;].*/, "").trim().split(/\s+/);
    switch (keyword) {
      case "nameserver": {
        const ip = canonicalIp(values[0] ?? "");
        if (ip !== undefined && servers.length < MAX_SERVERS) servers.push(ip);
        break;
      }
      // The last of these lines counts.
      case "domain":
      case "search":
        search = values.map((value) => parseName(value)).filter((name) => name !== undefined && name !== "")
          .slice(0, MAX_SEARCH) as string[];
        break;
      case "options":
        for (const option of values) {
          const value = /^ndots:([0-9]+)$/.exec(option)?.[1];
          if (value !== undefined) ndots = Math.min(Number(value), MAX_NDOTS);
        }
    }
  }
  return { servers, search, ndots };
}

export function parseHosts(text: string): Hosts {
  const hosts = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [address, ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    const ip = canonicalIp(address);
    if (ip === undefined) continue;
    for (const text of names) {
      const name = parseName(text);
      if (name === undefined) continue;
      const known = hosts.get(name);
      if (known === undefined) hosts.set(name, [ip]);
      else if (!known.includes(ip)) known.push(ip);
    }
  }
  return hosts;
}

/** How files are read; a test gives its own. */
export interface FileSource {
  /** Changes when the file does; undefined: there is no such file. */
  version(path: string): string | undefined;
  read(path: string): string;
}

const diskFiles: FileSource = {
  version(path) {
    const { mtimeMs, size, ino } = statSync(path);
    return size > MAX_FILE_BYTES ? undefined : `${ino} ${mtimeMs} ${size}`;
  },
  read: (path) => readFileSync(path, "utf8"),
};

export class SystemFiles {
  readonly #resolvConf: CachedFile<ResolvConf>;
  readonly #hosts: CachedFile<Hosts>;

  /** `nowMs`: any clock that only moves forward. */
  constructor(nowMs: () => number, files: FileSource = diskFiles) {
    this.#resolvConf = new CachedFile("/etc/resolv.conf", parseResolvConf, nowMs, files);
    this.#hosts = new CachedFile("/etc/hosts", parseHosts, nowMs, files);
  }

  get resolvConf(): ResolvConf {
    return this.#resolvConf.value;
  }

  get hosts(): Hosts {
    return this.#hosts.value;
  }
}

class CachedFile<Value> {
  #version: string | undefined;
  #lookedMs = -Infinity;
  #value: Value;

  constructor(
    readonly path: string,
    readonly parse: (text: string) => Value,
    readonly nowMs: () => number,
    readonly files: FileSource,
  ) {
    this.#value = parse("");
  }

  get value(): Value {
    const now = this.nowMs();
    if (now - this.#lookedMs < LOOK_MS) return this.#value;
    this.#lookedMs = now;
    try {
      const version = this.files.version(this.path);
      if (version !== this.#version) {
        this.#value = this.parse(version === undefined ? "" : this.files.read(this.path));
        this.#version = version;
      }
    } catch {
      this.#value = this.parse("");
      this.#version = undefined;
    }
    return this.#value;
  }
}
