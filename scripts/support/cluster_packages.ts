/** Debian packages that only a node of Kubernetes needs. The others come with `deno task setup`. */
import { existsSync } from "node:fs";
import { run } from "./tools.ts";

const PACKAGES = [
  { program: "containerd", packages: ["containerd"] },
  { program: "runc", packages: ["runc"] },
];
const TIMEOUT_MS = 180_000;

function present(program: string): boolean {
  return ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].some((place) =>
    existsSync(`${place}/${program}`)
  );
}

/** Rejects with what is missing. Needs root. */
export async function installPackages(): Promise<void> {
  const missing = PACKAGES.filter(({ program }) => !present(program)).flatMap(({ packages }) => packages);
  if (missing.length === 0) return;
  console.log(`test:cluster: apt-get install ${missing.join(" ")}`);
  const settings = { env: { DEBIAN_FRONTEND: "noninteractive" }, show: false, timeoutMs: TIMEOUT_MS };
  await run(["apt-get", "update", "-qq"], settings);
  const { output } = await run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", ...missing], settings);
  const still = PACKAGES.filter(({ program }) => !present(program)).map(({ program }) => program);
  if (still.length > 0) throw new Error(`missing on this system: ${still.join(", ")}; apt-get said: ${output.trim()}`);
}
