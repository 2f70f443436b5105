/** Numbers of the DNS (RFC 1035, RFC 6891) that ambit tells apart, and the names that people know them by. */

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  DS: 43,
  DNSKEY: 48,
  TLSA: 52,
  OPT: 41,
  SVCB: 64,
  HTTPS: 65,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
  CAA: 257,
} as const;

export const CLASS_IN = 1;
export const OPCODE_QUERY = 0;

export const RCODE = {
  NoError: 0,
  FormErr: 1,
  ServFail: 2,
  NXDomain: 3,
  NotImp: 4,
  Refused: 5,
  /** RFC 6891: twelve bits, the upper eight in the OPT record. */
  BadVers: 16,
} as const;

const typeNames = new Map<number, string>(Object.entries(TYPE).map(([name, type]) => [type, name]));

/** `A`, `AAAA`; RFC 3597's `TYPE4711` for one that has no name here. */
export function typeName(type: number): string {
  return typeNames.get(type) ?? `TYPE${type}`;
}
