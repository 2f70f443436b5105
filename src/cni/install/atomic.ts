/**
 * Files that are there whole or not at all, whenever the machine or this process stops. A temporary file lies beside its target under a
 * name that no container runtime reads: `<name>.tmp.<random>` (reference cni.md 1.6).
 */
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { codeOf, type InstallFs, isMissing } from "./fs.ts";

const INFIX = ".tmp.";
const COPY_BYTES = 1024 * 1024;

/** Rejects with what, where and what to do; the old file is as it was then, and no temporary one is left. */
export async function writeAtomically(fs: InstallFs, path: string, bytes: Uint8Array, mode: number): Promise<void> {
  await replace(fs, path, mode, async (write) => await write(bytes));
}

/** With the mode of the source. Rejects as `writeAtomically` does. */
export async function copyAtomically(fs: InstallFs, from: string, to: string): Promise<void> {
  const source = await fs.openToRead(from).catch((error: unknown) => {
    throw explained(`cannot read ${from}`, from, error);
  });
  try {
    const { mode } = await fs.stat(from);
    await replace(fs, to, mode, async (write) => {
      for (;;) {
        const bytes = await source.read(COPY_BYTES);
        if (bytes.length === 0) return;
        await write(bytes);
      }
    });
  } finally {
    await source.close();
  }
}

async function replace(
  fs: InstallFs,
  path: string,
  mode: number,
  fill: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const temporary = `${path}${INFIX}${randomBytes(6).toString("hex")}`;
  try {
    const file = await fs.create(temporary);
    try {
      await fill((bytes) => file.write(bytes));
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temporary, path);
    await fs.syncDir(dirname(path));
  } catch (error) {
    await fs.unlink(temporary).catch(() => {});
    throw explained(`cannot write ${path}`, path, error);
  }
}

/** What a writer that was killed left behind of this file. Nothing depends on it, so nothing is said when it cannot be removed. */
export async function removeLeftovers(fs: InstallFs, path: string): Promise<void> {
  const prefix = `${basename(path)}${INFIX}`;
  const names = await fs.readDir(dirname(path)).catch(() => []);
  for (const name of names) {
    if (name.startsWith(prefix)) await fs.unlink(join(dirname(path), name)).catch(() => {});
  }
}

/** Whether it was there. Rejects with what, where and what to do. */
export async function removeFile(fs: InstallFs, path: string): Promise<boolean> {
  try {
    await fs.unlink(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw explained(`cannot remove ${path}`, path, error);
  }
}

/** An error of the file system with what to do about it. */
export function explained(what: string, path: string, error: unknown): Error {
  const text = `${what}: ${hint(error, dirname(path))}`;
  return Object.assign(new Error(text, { cause: error }), { code: codeOf(error) });
}

function hint(error: unknown, directory: string): string {
  switch (codeOf(error)) {
    case "EROFS":
      return `${directory} is on a read-only file system: set the Helm value global.platform to this cluster's platform, or ` +
        "cniBinDir and cniConfDir to folders that can be written";
    case "EACCES":
    case "EPERM":
      return `no permission (${
        codeOf(error)
      }): the agent runs as root with DAC_OVERRIDE, and a security module (SELinux, AppArmor) ` +
        "must let it write there; on some platforms the Helm value global.platform sets that right";
    case "ENOENT":
    case "ENOTDIR":
      return `there is no folder ${directory}: is it mounted from the node?`;
    case "ENOSPC":
    case "EDQUOT":
      return `no space left on the file system of ${directory}: make room on the node`;
    case "EISDIR":
      return "there is a folder of that name";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}
