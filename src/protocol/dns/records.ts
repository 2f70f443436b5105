/**
 * Where names stand in the data of resource records. Names there may be compressed in these types (RFC 1035 section 3.3, and those of
 * RFC 3597 section 4 that old servers compress), so that data can only be passed on with its names written out.
 */
import { TYPE } from "./constants.ts";

/** Fixed bytes, then character strings, then names, then `rest` says whether anything may follow. */
export interface NameLayout {
  readonly fixed: number;
  readonly strings: number;
  readonly names: number;
  readonly rest: boolean;
}

const layout = (names: number, fixed = 0, strings = 0, rest = false): NameLayout => ({ fixed, strings, names, rest });

const layouts = new Map<number, NameLayout>([
  [TYPE.NS, layout(1)],
  [3, layout(1)], // MD
  [4, layout(1)], // MF
  [TYPE.CNAME, layout(1)],
  [TYPE.SOA, layout(2, 0, 0, true)],
  [7, layout(1)], // MB
  [8, layout(1)], // MG
  [9, layout(1)], // MR
  [TYPE.PTR, layout(1)],
  [14, layout(2)], // MINFO
  [TYPE.MX, layout(1, 2)],
  [17, layout(2)], // RP
  [18, layout(1, 2)], // AFSDB
  [21, layout(1, 2)], // RT
  [24, layout(1, 18, 0, true)], // SIG
  [26, layout(2, 2)], // PX
  [30, layout(1, 0, 0, true)], // NXT
  [TYPE.SRV, layout(1, 6)],
  [TYPE.NAPTR, layout(1, 4, 3)],
  [36, layout(1, 2)], // KX
  [39, layout(1)], // DNAME
]);

/** Undefined: the data holds no name that could be compressed. */
export function nameLayout(type: number): NameLayout | undefined {
  return layouts.get(type);
}

/** Types whose names may be compressed when written: those that every reader knows (RFC 3597 section 4). */
export function mayCompress(type: number): boolean {
  return type === TYPE.NS || type === TYPE.CNAME || type === TYPE.SOA || type === TYPE.PTR || type === TYPE.MX;
}
