/** The plugin's binary, and whatever else lies beside it, copied to the node: reference cni.md 1.6. */
import { join } from "node:path";
import { copyAtomically, explained, removeLeftovers } from "./atomic.ts";
import { type InstallFs, isMissing } from "./fs.ts";

interface Copied {
  readonly name: string;
  /** Of both files when they were the same. */
  readonly source: string;
  readonly target: string;
}

export class Binaries {
  readonly #fs: InstallFs;
  readonly #from: string;
  readonly #to: string;
  #copied: readonly Copied[] | undefined;

  constructor(fs: InstallFs, from: string, to: string) {
    this.#fs = fs;
    this.#from = from;
    this.#to = to;
  }

  /** Names of what is installed. */
  get names(): readonly string[] {
    return this.#copied?.map(({ name }) => name) ?? [];
  }

  /**
   * Copies what is not there as it was copied last; the first time, everything. Gives the names of what was copied. Rejects with what, where
   * and what to do.
   */
  async install(): Promise<readonly string[]> {
    const names = await this.#sourceNames();
    const done: Copied[] = [];
    const written: string[] = [];
    for (const name of names) {
      const from = join(this.#from, name);
      const to = join(this.#to, name);
      const last = this.#copied?.find((copied) => copied.name === name);
      const current = { name, source: await this.#version(from), target: await this.#version(to) };
      // Also when both folders are one.
      if (current.source === current.target || last?.source === current.source && last.target === current.target) {
        done.push(current);
        continue;
      }
      await removeLeftovers(this.#fs, to);
      await copyAtomically(this.#fs, from, to);
      done.push({ name, source: current.source, target: await this.#version(to) });
      written.push(name);
    }
    this.#copied = done;
    return written;
  }

  /** What is not as it was installed; undefined when everything is. */
  async problem(): Promise<string | undefined> {
    for (const { name, target } of this.#copied ?? []) {
      const now = await this.#version(join(this.#to, name));
      if (now !== target) return `${join(this.#to, name)} ${now === "" ? "is gone" : "was changed"}`;
    }
    return undefined;
  }

  async #sourceNames(): Promise<readonly string[]> {
    const all = await this.#fs.readDir(this.#from).catch((error: unknown) => {
      throw explained(`cannot read the folder of binaries ${this.#from}`, join(this.#from, "x"), error);
    });
    const names: string[] = [];
    for (const name of [...all].sort()) {
      const { isFile } = await this.#fs.stat(join(this.#from, name)).catch(() => ({ isFile: false }));
      if (isFile) names.push(name);
    }
    if (names.length === 0) throw new Error(`there are no binaries to install in ${this.#from}`);
    return names;
  }

  /** "" when there is none. */
  async #version(path: string): Promise<string> {
    try {
      return (await this.#fs.stat(path)).version;
    } catch (error) {
      if (isMissing(error)) return "";
      throw explained(`cannot look at ${path}`, path, error);
    }
  }
}
