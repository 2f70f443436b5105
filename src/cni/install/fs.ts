/** What the installer does to the node's file system, in the few steps in which it can fail. */
import { mkdir, open, readdir, readFile, rename, stat, unlink } from "node:fs/promises";

export interface FileStat {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  /** Permission bits. */
  readonly mode: number;
  readonly bytes: number;
  /** Changes whenever anything about the file does. */
  readonly version: string;
}

export interface OpenFile {
  /** Up to `maxBytes`, from where the last one ended; empty at the end. */
  read(maxBytes: number): Promise<Uint8Array>;
  /** All of it. */
  write(bytes: Uint8Array): Promise<void>;
  /** Whatever the umask says. */
  chmod(mode: number): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** All reject with an error that has a `code`. */
export interface InstallFs {
  /** Names, in no order. */
  readDir(path: string): Promise<readonly string[]>;
  readFile(path: string): Promise<Uint8Array>;
  /** Follows symbolic links. */
  stat(path: string): Promise<FileStat>;
  openToRead(path: string): Promise<OpenFile>;
  /** Fails when there is one; nobody else may read it yet. */
  create(path: string): Promise<OpenFile>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** So that names in it survive a power failure. */
  syncDir(path: string): Promise<void>;
  /** And those above it. */
  makeDir(path: string, mode: number): Promise<void>;
}

export const NODE_FS: InstallFs = {
  readDir: (path) => readdir(path),
  readFile: (path) => readFile(path),
  async stat(path) {
    const found = await stat(path, { bigint: true });
    return {
      isFile: found.isFile(),
      isDirectory: found.isDirectory(),
      mode: Number(found.mode & 0o7777n),
      bytes: Number(found.size),
      version: `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`,
    };
  },
  openToRead: async (path) => wrap(await open(path, "r")),
  create: async (path) => wrap(await open(path, "wx", 0o600)),
  rename,
  unlink,
  async syncDir(path) {
    const directory = await open(path, "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  },
  async makeDir(path, mode) {
    await mkdir(path, { recursive: true, mode });
  },
};

function wrap(handle: Awaited<ReturnType<typeof open>>): OpenFile {
  return {
    async read(maxBytes) {
      const buffer = new Uint8Array(maxBytes);
      const { bytesRead } = await handle.read(buffer, 0, maxBytes, null);
      return buffer.subarray(0, bytesRead);
    },
    async write(bytes) {
      for (let at = 0; at < bytes.length;) {
        const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, null);
        at += bytesWritten;
      }
    },
    chmod: (mode) => handle.chmod(mode),
    sync: () => handle.sync(),
    close: () => handle.close(),
  };
}

/** `ENOENT` and the like; "" of an error that has none. */
export function codeOf(error: unknown): string {
  const code: unknown = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : "";
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR";
}
