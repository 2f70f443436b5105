/**
 * Maglev's lookup table (Eisenbud et al. 2016, listing 1) with weights as Envoy fills it: hosts in the order of their keys take turns at the next
 * free slot of their own permutation, a host of half the greatest weight every other turn.
 */
import { xxhash64 } from "../../router/xxhash64.ts";
import type { Host } from "../host.ts";
import { NOBODY, type Picker, type Share } from "./picker.ts";

/** Moves a request that asks again far away from where it was sent before. */
const ATTEMPT_STRIDE = 40_503;

export function maglev(shares: readonly Share[], tableSize: number, keyOf: (host: Host) => string): Picker {
  if (shares.length === 0) return NOBODY;
  if (shares.length === 1) return { pick: () => shares[0].host };
  const { table, hosts } = buildMaglevTable(shares, tableSize, keyOf);
  return { pick: (hash, attempt) => hosts[table[(hash % tableSize + attempt * ATTEMPT_STRIDE) % tableSize]] };
}

const NONE = 0xffff_ffff;

/** `tableSize` is prime, so that each permutation visits every slot. */
export function buildMaglevTable(
  shares: readonly Share[],
  tableSize: number,
  keyOf: (host: Host) => string,
): { readonly table: Uint32Array; readonly hosts: readonly Host[] } {
  const keyed = shares.map((share) => ({ ...share, key: keyOf(share.host) }));
  keyed.sort((a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
  const size = BigInt(tableSize);
  const next = Float64Array.from(keyed, ({ key }) => Number(xxhash64(key) % size));
  const skips = Float64Array.from(keyed, ({ key }) => Number(xxhash64(key, 1n) % (size - 1n)) + 1);
  const greatest = keyed.reduce((greatest, { weight }) => Math.max(greatest, weight), 0);
  const targets = new Float64Array(keyed.length);
  const table = new Uint32Array(tableSize).fill(NONE);
  for (let filled = 0, turn = 1; filled < tableSize; turn++) {
    for (let i = 0; i < keyed.length && filled < tableSize; i++) {
      if (turn * keyed[i].weight < targets[i]) continue;
      targets[i] += greatest;
      let slot = next[i];
      while (table[slot] !== NONE) slot = (slot + skips[i]) % tableSize;
      table[slot] = i;
      next[i] = (slot + skips[i]) % tableSize;
      filled++;
    }
  }
  return { table, hosts: keyed.map(({ host }) => host) };
}
