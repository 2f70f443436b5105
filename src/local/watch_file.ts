/**
 * Tells when the content of a file changes, however it is written: in place, by a rename over it, or behind a symbolic link.
 */
import { type FSWatcher, watch } from "node:fs";
import { readFile, realpath } from "node:fs/promises";
import { dirname } from "node:path";

/** Editors write in several steps; a change is read when it has been quiet for so long, in milliseconds. */
const SETTLE_MS = 100;

export interface FileWatch {
  close(): void;
}

/**
 * Calls `changed` with each new content that differs from the last (`current` to begin with); one call at a time. A file that
 * is missing for a moment is no change.
 */
export async function watchFile(
  path: string,
  current: string,
  changed: (text: string) => Promise<void>,
): Promise<FileWatch> {
  let last = current;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let busy: Promise<void> = Promise.resolve();
  const check = async () => {
    const text = await readFile(path, "utf8").catch(() => undefined);
    if (text === undefined || text === last) return;
    last = text;
    await changed(text);
  };
  const schedule = () => {
    clearTimeout(timer);
    timer = setTimeout(() => busy = busy.then(check), SETTLE_MS);
  };
  // The directories, not the file: a rename over it would leave the watch with the old one.
  const directories = new Set([dirname(path), dirname(await realpath(path))]);
  const watchers: FSWatcher[] = [...directories].map((directory) => watch(directory, schedule));
  schedule(); // what changed between the first read and now
  return {
    close() {
      clearTimeout(timer);
      for (const watcher of watchers) watcher.close();
    },
  };
}
