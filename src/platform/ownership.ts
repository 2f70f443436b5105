/**
 * Which worker owns which descriptor, in memory that all threads share: when a worker dies its descriptors are
 * closed by the main thread, so that no connection hangs on a thread that is gone.
 */
import { closeDescriptor } from "./socket.ts";

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

/** Closes everything an owner had. Its thread must have ended. Returns how many descriptors that were. */
export function closeOwned(table: OwnershipTable, owner: number): number {
  let closed = 0;
  for (let fd = table.indexOf(owner); fd !== -1; fd = table.indexOf(owner, fd + 1)) {
    table[fd] = 0;
    closeDescriptor(fd);
    closed++;
  }
  return closed;
}
