/**
 * How this program starts itself again: as the compiled binary that it is, or as a script of the runtime that runs it.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

/** npm's bun is called `bun.exe` on every system. */
const RUNTIME_NAME = /^(deno|bun)(\b|$)/;

/** The command line that runs ambit with `args`. */
export function selfCommand(args: readonly string[]): readonly string[] {
  const runtime = RUNTIME_NAME.exec(basename(process.execPath))?.[1];
  if (runtime === undefined) return [process.execPath, ...args];
  const entry = fileURLToPath(new URL("../../mod.ts", import.meta.url));
  const flags = runtime === "deno" ? ["run", "--quiet", "--no-prompt", "-A"] : [];
  return [process.execPath, ...flags, entry, ...args];
}

/** Makes a directory with a script `ambit` that is this program, for the PATH of pods. Resolves with the directory. */
export async function writeSelfScript(directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  const words = selfCommand([]).map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
  await writeFile(join(directory, "ambit"), `#!/bin/sh\nexec ${words.join(" ")} "$@"\n`, { mode: 0o755 });
  return directory;
}
