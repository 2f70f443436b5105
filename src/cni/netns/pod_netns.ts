/**
 * An open network namespace of a pod. Its descriptor is closed when the last of those who hold it has released it, so that a message
 * in flight never carries a number that was given out anew.
 */
import { fileIdentity } from "../../platform/netns.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import process from "node:process";

export interface PodNetns {
  readonly fd: number;
  /** Device and inode: what tells this namespace from every other one that exists. */
  readonly identity: string;
  /** `/proc/PID/fd/N`: names this very namespace to tools this process starts, whatever happens to the pod's own files. */
  readonly path: string;
  /** False when the last holder has released it: then it must not be used. Each true asks for one `release`. */
  retain(): boolean;
  release(): void;
}

/** Holds a descriptor for the caller, who has the first reference. Undefined, and the descriptor closed, when it is not open. */
export function holdNetns(fd: number, close: (fd: number) => void = closeDescriptor): PodNetns | undefined {
  const identity = fileIdentity(fd);
  if (identity === undefined) {
    close(fd);
    return undefined;
  }
  let holders = 1;
  return {
    fd,
    identity,
    path: `/proc/${process.pid}/fd/${fd}`,
    retain() {
      if (holders === 0) return false;
      holders++;
      return true;
    },
    release() {
      if (holders === 0) throw new Error(`the network namespace ${identity} was released more often than it was held`);
      if (--holders === 0) close(fd);
    },
  };
}
