/** Which chain a connection takes: by authority, then by the most specific address, its port, and what it speaks (waypoint.md appendix C). */
import { formatIp, parseCidr, parseIp } from "../../mesh/ip.ts";
import type { ChainChoice, ChainName, ConfigUpdate, PortSelection, SelectionSpec } from "../spec/mod.ts";

interface Range {
  readonly bits: number;
  readonly to: PortSelection;
}

export class Selection {
  #authorities: ReadonlyMap<string, ChainName> = new Map();
  /** Ranges by length, the longest first; in each by their address. */
  readonly #lengths: { readonly bits: number; readonly isV6: boolean; readonly ranges: Map<string, Range> }[] = [];

  /** How many of the specification's ranges it has: a large one comes in parts. */
  ranges = 0;

  /** @throws Error for a range that is none */
  constructor(spec?: SelectionSpec) {
    if (spec === undefined) return;
    this.#authorities = new Map(Object.entries(spec.authorities));
    this.add(spec.ranges);
  }

  /** The next part of it. @throws Error for a range that is none */
  add(ranges: SelectionSpec["ranges"]): void {
    for (const { cidrs, to } of ranges) for (const cidr of cidrs) this.#add(cidr, to);
    this.ranges += ranges.length;
    this.#lengths.sort((a, b) => b.bits - a.bits);
  }

  /** The last part. @throws Error for a range that is none */
  finish({ authorities, ranges }: SelectionSpec): void {
    this.add(ranges);
    this.#authorities = new Map(Object.entries(authorities));
  }

  #add(text: string, to: PortSelection): void {
    const cidr = parseCidr(text);
    if (cidr === undefined) throw new Error(`${JSON.stringify(text)} is no range of addresses`);
    const isV6 = cidr.bytes.length === 16;
    let length = this.#lengths.find(({ bits, isV6: six }) => bits === cidr.prefixLength && six === isV6);
    if (length === undefined) {
      length = { bits: cidr.prefixLength, isV6, ranges: new Map() };
      this.#lengths.push(length);
    }
    const key = formatIp(cidr.bytes);
    // Of two equal ranges the first counts.
    if (!length.ranges.has(key)) length.ranges.set(key, { bits: cidr.prefixLength, to });
  }

  /** Undefined: nobody takes it. */
  find(authority: string, ip: string, port: number): ChainChoice | undefined {
    const byAuthority = this.#authorities.get(authority);
    if (byAuthority !== undefined) return { kind: "chain", chain: byAuthority };
    const bytes = parseIp(ip);
    if (bytes === undefined) return undefined;
    for (const { bits, isV6, ranges } of this.#lengths) {
      if (isV6 !== (bytes.length === 16)) continue;
      const range = ranges.get(masked(bytes, bits));
      // The most specific range decides, whether or not it knows the port.
      if (range !== undefined) return range.to.kind === "any" ? range.to.to : range.to.ports[port];
    }
    return undefined;
  }
}

/** A selection that comes in parts, and is made of them between requests. */
export class SelectionParts {
  #next: { readonly made: Selection; failure: Error | undefined } | undefined;

  /** `at`: how many ranges came before. One that does not follow the part before is passed over, and so are all after it. */
  take({ at, ranges }: NonNullable<ConfigUpdate["selectionPart"]>): void {
    if (at === 0) this.#next = { made: new Selection(), failure: undefined };
    const next = this.#next;
    if (next === undefined || next.failure !== undefined) return;
    if (next.made.ranges !== at) {
      this.#next = undefined;
      return;
    }
    try {
      next.made.add(ranges);
    } catch (error) {
      next.failure = error as Error;
    }
  }

  /** The last part, or the only one. Undefined: not all parts were seen. @throws Error for a range that is none, in whichever part */
  finish(spec: SelectionSpec, at: number): Selection | undefined {
    const next = this.#next;
    this.#next = undefined;
    if (at === 0) return new Selection(spec);
    if (next === undefined) return undefined;
    if (next.failure !== undefined) throw next.failure;
    if (next.made.ranges !== at) return undefined;
    next.made.finish(spec);
    return next.made;
  }
}

function masked(bytes: Uint8Array, bits: number): string {
  if (bits === bytes.length * 8) return formatIp(bytes);
  const copy = bytes.slice();
  for (let i = 0; i < copy.length; i++) {
    const kept = Math.max(0, Math.min(8, bits - i * 8));
    copy[i] &= (0xff << (8 - kept)) & 0xff;
  }
  return formatIp(copy);
}
