/**
 * Compiles one binary per role with Deno, each with the permissions that its role needs and no others:
 * dist/deno/ambit-ROLE. `deno task compile`.
 *
 * Deno fetches its base binary (denort) once; DENORT_BIN names one that is there already.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { filesBelow, ROOT, run, tool } from "./support/tools.ts";

/**
 * Every role reads its environment and files that its configuration names. `ffi` is libc and OpenSSL: who has it
 * is not confined by the others, which keep mistakes small rather than intruders out.
 */
export const ROLE_PERMISSIONS: Readonly<Record<string, readonly string[]>> = {
  ztunnel: ["--allow-env", "--allow-read", "--allow-net", "--allow-ffi", "--allow-sys"],
  // Writes access logs to files that Telemetry names, and the certificate where OUTPUT_CERTS says.
  waypoint: ["--allow-env", "--allow-read", "--allow-write", "--allow-net", "--allow-ffi", "--allow-sys"],
  // Installs the plugin, and runs iptables, nft, ipset and ip.
  cni: ["--allow-env", "--allow-read", "--allow-write", "--allow-net", "--allow-ffi", "--allow-sys", "--allow-run"],
  local: ["--allow-env", "--allow-read", "--allow-write", "--allow-net", "--allow-ffi", "--allow-sys", "--allow-run"],
};

export function compileCommand(role: string, outfile: string): string[] {
  const permissions = ROLE_PERMISSIONS[role];
  if (permissions === undefined) throw new Error(`no permissions are known for the role ${role}`);
  return [
    tool("deno"),
    "compile",
    "--no-check",
    "--no-prompt",
    ...permissions,
    // Roles and workers are loaded when they are wanted, so the compiler does not find them by itself (src/cli/role_modules.ts).
    ...filesBelow("src/roles", ".ts").map((path) => `--include=${path}`),
    `--output=${outfile}`,
    "mod.ts",
  ];
}

if (import.meta.main) {
  mkdirSync(join(ROOT, "dist/deno"), { recursive: true });
  for (const role of Object.keys(ROLE_PERMISSIONS)) {
    const { code } = await run(compileCommand(role, join(ROOT, `dist/deno/ambit-${role}`)));
    if (code !== 0) {
      console.error(
        `compile: ${role} failed: see above; DENORT_BIN=PATH gives Deno its base binary without a download`,
      );
      process.exit(1);
    }
    console.log(`compile: dist/deno/ambit-${role}`);
  }
}
