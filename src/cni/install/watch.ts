/**
 * Tells that something changed in one of several directories. An event is a hint to look, nothing more: some file systems send none,
 * and the kernel gives only so many watches.
 */
import { watch } from "node:fs";

export interface Watching {
  close(): void;
}

/** `changed` gets the name of the file when it is known. Throws when the directory cannot be watched. */
export type WatchDirectory = (
  path: string,
  changed: (name: string | undefined) => void,
  failed: (error: Error) => void,
) => Watching;

export const watchDirectory: WatchDirectory = (path, changed, failed) => {
  const watcher = watch(path, { persistent: true }, (_, name) => changed(name === null ? undefined : String(name)));
  watcher.on("error", failed);
  return watcher;
};

export interface WatchedDirectory {
  readonly path: string;
  /** Whether a change of this file is worth a look. */
  readonly concerns: (name: string) => boolean;
}

/** One round of watching: made anew after each pass, because a pass changes files itself. */
export class WatchRound {
  readonly #watchings: Watching[] = [];
  readonly #changed: Set<string> = new Set();
  #wake: (() => void) | undefined;
  #closed = false;

  /** A directory that is missing is passed over; `problem` says of any other that cannot be watched. */
  constructor(watch: WatchDirectory, directories: readonly WatchedDirectory[], problem: (text: string) => void) {
    for (const { path, concerns } of directories) {
      const changed = (name: string | undefined) => {
        if (this.#closed || name !== undefined && !concerns(name)) return;
        this.#changed.add(name === undefined ? path : `${path}/${name}`);
        this.#wake?.();
      };
      const failed = (error: Error) => {
        if (this.#closed) return;
        problem(`cannot watch ${path}: ${error.message}`);
        this.#changed.add(path);
        this.#wake?.();
      };
      try {
        this.#watchings.push(watch(path, changed, failed));
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        if (code !== "ENOENT") problem(`cannot watch ${path}: ${message}`);
      }
    }
  }

  /** What changed since the last time, for a person. */
  take(): readonly string[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  /** Calls `wake` at the next change, at once when there was one; the result takes it back. */
  onChange(wake: () => void): () => void {
    if (this.#changed.size > 0) wake();
    else this.#wake = wake;
    return () => this.#wake = undefined;
  }

  close(): void {
    this.#closed = true;
    for (const watching of this.#watchings) watching.close();
  }
}
