/** The data of the records that ambit makes or looks into. */
import { CLASS_IN, TYPE } from "./constants.ts";
import { mergeNames } from "./encode.ts";
import type { ResourceRecord } from "./message.ts";
import { NameReader } from "./name.ts";

const NOTHING = new Uint8Array(0);

/** An A or AAAA record, by the length of the address. */
export function addressRecord(name: string, address: Uint8Array, ttl: number): ResourceRecord {
  return { name, type: address.length === 4 ? TYPE.A : TYPE.AAAA, class: CLASS_IN, ttl, data: address };
}

export function cnameRecord(name: string, canonical: string, ttl: number): ResourceRecord {
  return { name, type: TYPE.CNAME, class: CLASS_IN, ttl, data: mergeNames(NOTHING, [canonical], NOTHING) };
}

/** The name that a CNAME, NS or PTR record leads to; undefined when its data holds none. */
export function targetName({ data }: ResourceRecord): string | undefined {
  return new NameReader(data).read(0);
}

/** The last field of an SOA record, which is how long its owner's absence may be remembered (RFC 2308 section 4). */
export function soaMinimum({ data }: ResourceRecord): number | undefined {
  // Two names of at least a byte each, then five numbers.
  if (data.length < 22) return undefined;
  const at = data.length - 4;
  return data[at] * 2 ** 24 + (data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]);
}
