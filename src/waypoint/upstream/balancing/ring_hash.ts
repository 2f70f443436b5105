/**
 * A hash ring (Karger et al. 1997) as Envoy builds it: each host at the hashes of `key_0`, `key_1`, …, as many as its weight says; a request
 * goes to the first place at or behind its own hash. A host that goes away takes only its own requests along.
 */
import { hash53 } from "../../router/xxhash64.ts";
import type { Host } from "../host.ts";
import { NOBODY, type Picker, type Share } from "./picker.ts";

export function ringHash(
  shares: readonly Share[],
  minSize: number,
  maxSize: number,
  keyOf: (host: Host) => string,
): Picker {
  if (shares.length === 0) return NOBODY;
  if (shares.length === 1) return { pick: () => shares[0].host };
  const { places, owners } = buildRing(shares, minSize, maxSize, keyOf);
  return {
    pick: (hash, attempt) => {
      const at = (firstFrom(places, hash) + attempt) % places.length;
      return shares[owners[at]].host;
    },
  };
}

/** The lightest host gets a whole number of places, and so does nearly every other: the sums are carried on from host to host. */
function buildRing(
  shares: readonly Share[],
  minSize: number,
  maxSize: number,
  keyOf: (host: Host) => string,
): { readonly places: Float64Array; readonly owners: Uint32Array } {
  const least = shares.reduce((least, { weight }) => Math.min(least, weight), 1);
  const scale = Math.min(Math.ceil(least * minSize) / least, maxSize);
  const hashes: number[] = [];
  const owners: number[] = [];
  let target = 0;
  shares.forEach(({ host, weight }, owner) => {
    target += scale * weight;
    const key = keyOf(host);
    for (let i = 0; hashes.length < target; i++) {
      hashes.push(host.ringHashes[i] ??= hash53(`${key}_${i}`));
      owners.push(owner);
    }
  });
  const order = Uint32Array.from(hashes.keys()).sort((a, b) => hashes[a] - hashes[b]);
  return {
    places: Float64Array.from(order, (at) => hashes[at]),
    owners: Uint32Array.from(order, (at) => owners[at]),
  };
}

/** Index of the first place at or behind `hash`; behind the last one comes the first. */
function firstFrom(places: Float64Array, hash: number): number {
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (places[middle] < hash) low = middle + 1;
    else high = middle;
  }
  return low === places.length ? 0 : low;
}
