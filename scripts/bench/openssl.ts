/** Another OpenSSL 3 than the system's for ambit: what a system brings decides about the cost of every byte (docs/benchmarks/README.md). */
import { existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileOfWheel, wheelCache } from "./wheel.ts";

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
  const links = join(wheelCache(PACKAGE), "openssl");
  for (const name of LIBRARIES) {
    const link = join(links, `${name}.so.3`);
    if (existsSync(link)) continue;
    const file = fileOfWheel(PACKAGE, `psycopg2_binary.libs/${name}-*.so.3`);
    if (file === undefined) throw new Error(`${PACKAGE} brought no ${name}.so.3: name a directory with --openssl`);
    mkdirSync(links, { recursive: true });
    symlinkSync(file, link);
  }
  return links;
}
