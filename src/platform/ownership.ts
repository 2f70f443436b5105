/**
 * Which worker owns which descriptor, in memory that all threads share: when a worker dies its descriptors are
 * closed by the main thread, so that no connection hangs on a thread that is gone.
 */
import { closeDescriptor, replaceDescriptor, setResetOnClose, socketPair } from "./socket.ts";

/** Descriptors above this are not tracked; the table costs a byte for each, in pages that are touched only when used. */
const TRACKED_DESCRIPTORS = 1 << 20;

/** Owner numbers fit a byte; 0 is nobody. */
const OWNERS = 255;

export type OwnershipTable = Uint8Array<SharedArrayBuffer>;

export function createOwnershipTable(): OwnershipTable {
  return new Uint8Array(new SharedArrayBuffer(TRACKED_DESCRIPTORS));
}

/** The owner number of the n-th thread ever started. */
export function ownerNumber(generation: number): number {
  return generation % OWNERS + 1;
}

/**
 * Closes everything an owner had; its thread must have ended. Connections are reset: what was cut off in the middle must not look
 * complete. Returns how many descriptors that were.
 */
export function closeOwned(table: OwnershipTable, owner: number): number {
  return forEachOwned(table, owner, closeDescriptor);
}

/**
 * The same for a thread that may run on, because not every runtime can stop it. The numbers stay taken, by a socket that can do nothing,
 * so that the thread never reaches what they would be given out for next; its next epoll_wait fails, and ends it.
 */
export function seizeOwned(table: OwnershipTable, owner: number): number {
  const pair = socketPair();
  if (pair === undefined) return 0;
  closeDescriptor(pair[1]);
  const seized = forEachOwned(table, owner, (fd) => replaceDescriptor(fd, pair[0]));
  closeDescriptor(pair[0]);
  return seized;
}

function forEachOwned(table: OwnershipTable, owner: number, end: (fd: number) => void): number {
  let count = 0;
  for (let fd = table.indexOf(owner); fd !== -1; fd = table.indexOf(owner, fd + 1)) {
    table[fd] = 0;
    setResetOnClose(fd);
    end(fd);
    count++;
  }
  return count;
}
