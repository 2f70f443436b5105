/** Another OpenSSL 3 than the system's for ambit: what a system brings decides about the cost of every byte (docs/benchmarks/README.md). */
import { execFileSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";

/** A wheel that carries both libraries for any glibc from 2.17 on. */
const PACKAGE = "psycopg2-binary==2.9.13";
const LIBRARIES = ["libssl", "libcrypto"] as const;

export interface OpenSsl {
  /** For LD_LIBRARY_PATH. */
  readonly directory: string;
  /** As the library names itself: "OpenSSL 3.5.8 25 Aug 2026". */
  readonly version: string;
}

/** `from`: a directory with both libraries, or "pypi", which installs them on first use. Throws when they are not there. */
export function findOpenSsl(from: string): OpenSsl {
  const directory = from === "pypi" ? installOpenSsl() : resolve(from);
  const library = join(directory, "libcrypto.so.3");
  const missing = LIBRARIES.find((name) => !existsSync(join(directory, `${name}.so.3`)));
  if (missing !== undefined) throw new Error(`--openssl: ${directory} has no ${missing}.so.3`);
  const version = /OpenSSL 3\.\d+\.\d+ \d+ \w+ \d+/.exec(readFileSync(library, "latin1"))?.[0];
  if (version === undefined) throw new Error(`--openssl: ${library} is not OpenSSL 3`);
  return { directory, version };
}

function installOpenSsl(): string {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "ambit-bench", PACKAGE);
  const links = join(cache, "openssl");
  if (existsSync(links)) return links;
  mkdirSync(cache, { recursive: true });
  execFileSync("python3", ["-m", "venv", cache], { stdio: "inherit" });
  execFileSync(join(cache, "bin", "pip"), ["install", "--quiet", "--no-deps", PACKAGE], { stdio: "inherit" });
  const found = LIBRARIES.map((name) => {
    const [file] = globSync(join(cache, "lib", "python3*", "site-packages", "psycopg2_binary.libs", `${name}-*.so.3`));
    if (file === undefined) throw new Error(`${PACKAGE} brought no ${name}.so.3: name a directory with --openssl`);
    return [name, file] as const;
  });
  mkdirSync(links);
  for (const [name, file] of found) symlinkSync(file, join(links, `${name}.so.3`));
  return links;
}
