/** The socket at which ztunnels connect: only its owner may, whatever umask the process was started with. */
import { lstatSync, mkdirSync, rmSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { describeErrno } from "../../platform/errno.ts";
import { listenSeqpacket } from "../../platform/seqpacket.ts";
import { closeDescriptor } from "../../platform/socket.ts";

/** ztunnels of a node: one, or two while one replaces the other. */
const BACKLOG = 16;
/** Who may connect is handed the network namespaces of all pods. */
const FILE_UMASK = 0o177;

export interface ZdsListener {
  readonly fd: number;
  /** Closes it; removes the file, unless another process listens there by now. */
  close(): void;
}

/** Listens; what an earlier agent left is removed, anything else is not. @throws Error that says why not */
export function listenZds(path: string): ZdsListener {
  mkdirSync(dirname(path), { recursive: true });
  const before = find(path);
  if (before !== undefined && !before.isSocket()) {
    throw new Error(`cannot listen for ztunnel at ${path}: there is a file that is no socket; remove it`);
  }
  rmSync(path, { force: true });
  const umask = process.umask(FILE_UMASK);
  const fd = listenSeqpacket(path, BACKLOG);
  process.umask(umask);
  if (fd < 0) throw new Error(`cannot listen for ztunnel at ${path}: ${describeErrno(-fd)}`);
  const own = find(path);
  return {
    fd,
    close() {
      closeDescriptor(fd);
      const now = find(path);
      if (now !== undefined && now.ino === own?.ino && now.dev === own.dev) rmSync(path, { force: true });
    },
  };
}

function find(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}
