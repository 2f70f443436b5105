/**
 * Makes a fresh clone ready: npm packages as locked, and the system's programs that tests and demo use.
 * Idempotent and quick when nothing is missing. `deno task setup`.
 *
 * Plain JavaScript for Node, which npm comes with: it runs before Deno and Bun are there.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * @typedef {{ version?: string, optional?: boolean }} LockedPackage
 * @typedef {{ packages: Record<string, LockedPackage> }} Lock
 */

/**
 * Packages that are not installed as locked. Those of other platforms are optional and may be absent.
 * @param {Lock} wanted package-lock.json
 * @param {Lock | undefined} installed npm's own record in node_modules
 * @returns {string[]}
 */
export function outdatedPackages(wanted, installed) {
  return Object.entries(wanted.packages)
    .filter(([path, { version, optional }]) => {
      if (path === "") return false;
      const present = installed?.packages[path]?.version;
      return present === undefined ? !optional : present !== version;
    })
    .map(([path]) => path.replace(/^.*node_modules\//, ""));
}

/** @param {string[]} command @param {Record<string, string>} [env] */
function run(command, env = {}) {
  const { status } = spawnSync(command[0], command.slice(1), {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return status === 0;
}

function installPackages() {
  const hidden = join(ROOT, "node_modules/.package-lock.json");
  const wanted = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8"));
  const installed = existsSync(hidden) ? JSON.parse(readFileSync(hidden, "utf8")) : undefined;
  const outdated = outdatedPackages(wanted, installed);
  if (outdated.length === 0) return;
  console.log(`setup: npm ci (${outdated.length} packages to install)`);
  if (!run(["npm", "ci", "--no-fund", "--no-audit"])) throw new Error("npm ci failed: see above");
}

/** @param {string} name */
function onPath(name) {
  // sbin is where nft and ip are, and not on everybody's PATH.
  return `${process.env.PATH ?? ""}:/usr/sbin:/sbin`.split(":").some((directory) => existsSync(join(directory, name)));
}

function hasOpenSsl() {
  const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const directories = [`/usr/lib/${triplet}`, `/lib/${triplet}`, "/usr/lib64", "/lib64", "/usr/lib", "/usr/local/lib"];
  return directories.some((directory) => existsSync(join(directory, "libssl.so.3")));
}

/** What is needed of the system, how it is recognised, and in which Debian packages it comes, the first that exists. */
const SYSTEM = [
  { name: "nft", packages: ["nftables"], present: () => onPath("nft") },
  // Both back ends: which one a node has is what the CNI agent must find out.
  { name: "iptables", packages: ["iptables"], present: () => onPath("iptables-nft") && onPath("iptables-legacy") },
  { name: "ipset", packages: ["ipset"], present: () => onPath("ipset") },
  {
    name: "CNI plugins",
    packages: ["containernetworking-plugins"],
    present: () => existsSync("/usr/lib/cni/bridge"),
  },
  { name: "ip", packages: ["iproute2"], present: () => onPath("ip") },
  { name: "curl", packages: ["curl"], present: () => onPath("curl") },
  { name: "unshare", packages: ["util-linux"], present: () => onPath("unshare") },
  { name: "openssl", packages: ["openssl"], present: () => onPath("openssl") },
  { name: "libssl.so.3", packages: ["libssl3t64", "libssl3"], present: hasOpenSsl },
];

function installSystem() {
  const missing = SYSTEM.filter((item) => !item.present());
  if (missing.length === 0) return;
  const isRoot = process.getuid?.() === 0;
  if (!isRoot || !onPath("apt-get")) {
    const list = missing.map(({ name, packages }) => `${name} (Debian, Ubuntu: package ${packages.join(" or ")})`);
    throw new Error(`missing on this system: ${list.join(", ")}. Install it${isRoot ? "" : ", or run this as root"}.`);
  }
  console.log(`setup: apt-get install for ${missing.map(({ name }) => name).join(", ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  run(["apt-get", "update", "-qq"], env);
  for (const { name, packages, present } of missing) {
    for (const candidate of packages) {
      if (!present()) run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", candidate], env);
    }
    if (!present()) throw new Error(`${name} is still missing after installing ${packages.join(" or ")}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    installPackages();
    installSystem();
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
