/**
 * A log file that many short-lived processes append to: at most 10 MB and one older file, which is kept for 2 days
 * (reference cni.md 1.3). Names of older files are those of Istio's plugin.
 */
import { appendFileSync, closeSync, openSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";

const MAX_BYTES = 10 * 1024 * 1024;
const OLDER_FILES = 1;
const OLDER_FILE_MS = 2 * 24 * 3600 * 1000;
/** Who rotates takes milliseconds; who died doing it must not stop it for good. */
const LOCK_STALE_MS = 60_000;

/** @throws Error when the file cannot be written */
export function appendToRollingFile(path: string, text: string, now: Date, maxBytes = MAX_BYTES): void {
  const isFull = () => {
    const size = sizeOf(path);
    return size > 0 && size + text.length > maxBytes;
  };
  if (isFull()) withLock(path, now, () => isFull() && rotate(path, now));
  // One write at the end of the file: lines of several processes do not mix.
  appendFileSync(path, text, { mode: 0o600 });
}

/** Takes away what has become too old. */
export function tidyRollingFile(path: string, now: Date): void {
  olderFiles(path).forEach((file, index) => {
    const age = now.getTime() - (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (index >= OLDER_FILES || age > OLDER_FILE_MS) rmSync(file, { force: true });
  });
}

/** One process at a time; the others go on writing, into whichever file is there. */
function withLock(path: string, now: Date, work: () => void): void {
  const lock = `${path}.lock`;
  try {
    closeSync(openSync(lock, "wx", 0o600));
  } catch {
    const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? now.getTime();
    if (now.getTime() - since > LOCK_STALE_MS) rmSync(lock, { force: true });
    return;
  }
  try {
    work();
  } finally {
    rmSync(lock, { force: true });
  }
}

function rotate(path: string, now: Date): void {
  const stamp = now.toISOString().replaceAll(":", "-").replace("Z", "");
  renameSync(path, `${stemOf(path)}${stamp}.log`);
  tidyRollingFile(path, now);
}

/** The newest first. */
function olderFiles(path: string): string[] {
  const directory = dirname(path);
  return readdirSync(directory)
    .map((name) => join(directory, name))
    .filter((file) => file.startsWith(stemOf(path)) && file.endsWith(".log"))
    .sort()
    .reverse();
}

function stemOf(path: string): string {
  return join(dirname(path), `${basename(path, ".log")}-`);
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
