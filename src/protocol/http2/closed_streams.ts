/**
 * How the streams that closed last did so: it decides whether a late frame is ignored, or an error (RFC 9113 5.1).
 * Fixed size; nothing is allocated before the first stream closes.
 */

export const Closed = {
  /** Not among those remembered. */
  FORGOTTEN: 0,
  /** Both ends finished: another frame is the peer's error. */
  ENDED: 1,
  RESET_BY_PEER: 2,
  /** Frames may have been on their way: they are ignored. */
  RESET_BY_US: 3,
} as const;

const REMEMBERED = 256;

export class ClosedStreams {
  #ring: Uint32Array | undefined;
  #next = 0;
  /** True once streams were forgotten: an unknown old id then proves nothing. */
  overflowed = false;

  /** Client-initiated ids are odd, so `id >> 1` with two bits for the reason fits 32 bits. */
  add(id: number, how: number): void {
    this.#ring ??= new Uint32Array(REMEMBERED);
    if (this.#ring[this.#next] !== 0) this.overflowed = true;
    this.#ring[this.#next] = id >>> 1 << 2 | how;
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  how(id: number): number {
    if (this.#ring === undefined) return Closed.FORGOTTEN;
    const wanted = id >>> 1;
    for (let i = 0; i < REMEMBERED; i++) {
      const entry = this.#ring[i];
      if (entry !== 0 && entry >>> 2 === wanted) return entry & 3;
    }
    return Closed.FORGOTTEN;
  }
}
