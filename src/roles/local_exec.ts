/** `ambit local exec WHERE -- COMMAND...`: runs a command in a pod or node of the mesh that is up. */
import { writeSync } from "node:fs";
import { execInMesh } from "../local/exec_client.ts";

const USAGE = `usage: ambit local exec POD|NODE -- COMMAND...

POD is a pod's name, or namespace/name. The command runs in its network, with this machine's files.
`;

/** Takes what follows `exec`. Resolves with the command's exit code, 2 for a wrong command line, 1 when there is no mesh. */
export async function runLocalExec(args: readonly string[]): Promise<number> {
  const [where, ...rest] = args;
  const command = rest[0] === "--" ? rest.slice(1) : rest;
  if (where === "--help" || where === "-h") {
    process.stdout.write(USAGE);
    return 0;
  }
  if (where === undefined || where.startsWith("-") || command.length === 0) {
    process.stderr.write(USAGE);
    return 2;
  }
  try {
    return await execInMesh({ where, command }, {
      stdout: (bytes) => writeAll(1, bytes),
      stderr: (bytes) => writeAll(2, bytes),
    });
  } catch (error) {
    process.stderr.write(`ambit local exec: ${(error as Error).message}\n`);
    return 1;
  }
}

/** Synchronously, so that nothing is lost when the process exits right after. */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length;) offset += writeSync(fd, bytes, offset);
}
