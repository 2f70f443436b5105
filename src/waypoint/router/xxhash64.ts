/** xxHash64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), by which Envoy hashes hosts and requests: replicas of either kind choose alike. */
import { Buffer } from "node:buffer";

const MASK = (1n << 64n) - 1n;
const P1 = 0x9E3779B185EBCA87n;
const P2 = 0xC2B2AE3D27D4EB4Fn;
const P3 = 0x165667B19E3779F9n;
const P4 = 0x85EBCA77C2B2AE63n;
const P5 = 0x27D4EB2F165667C5n;

function rotate(value: bigint, bits: bigint): bigint {
  return ((value << bits) | (value >> (64n - bits))) & MASK;
}

function round(accumulator: bigint, lane: bigint): bigint {
  return rotate((accumulator + lane * P2) & MASK, 31n) * P1 & MASK;
}

function merge(accumulator: bigint, lane: bigint): bigint {
  return ((accumulator ^ round(0n, lane)) * P1 + P4) & MASK;
}

export function xxhash64(text: string, seed = 0n): bigint {
  const bytes = Buffer.from(text, "latin1");
  const { length } = bytes;
  let at = 0;
  let hash: bigint;
  if (length >= 32) {
    let a = (seed + P1 + P2) & MASK, b = (seed + P2) & MASK, c = seed, d = (seed - P1) & MASK;
    for (; at + 32 <= length; at += 32) {
      a = round(a, bytes.readBigUInt64LE(at));
      b = round(b, bytes.readBigUInt64LE(at + 8));
      c = round(c, bytes.readBigUInt64LE(at + 16));
      d = round(d, bytes.readBigUInt64LE(at + 24));
    }
    hash = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & MASK;
    hash = merge(merge(merge(merge(hash, a), b), c), d);
  } else {
    hash = (seed + P5) & MASK;
  }
  hash = (hash + BigInt(length)) & MASK;
  for (; at + 8 <= length; at += 8) {
    hash = (rotate(hash ^ round(0n, bytes.readBigUInt64LE(at)), 27n) * P1 + P4) & MASK;
  }
  if (at + 4 <= length) {
    hash = (rotate(hash ^ (BigInt(bytes.readUInt32LE(at)) * P1 & MASK), 23n) * P2 + P3) & MASK;
    at += 4;
  }
  for (; at < length; at++) hash = rotate(hash ^ (BigInt(bytes[at]) * P5 & MASK), 11n) * P1 & MASK;
  hash = (hash ^ (hash >> 33n)) * P2 & MASK;
  hash = (hash ^ (hash >> 29n)) * P3 & MASK;
  return hash ^ (hash >> 32n);
}

/** The upper 53 bits: a number that keeps the order of hashes. */
export function hash53(text: string): number {
  return Number(xxhash64(text) >> 11n);
}
