/**
 * The deadlines of a connection: peer's SETTINGS, acknowledgement of ours, unfinished header block, keepalive PING,
 * graceful drain. Holds times only; what a missed one means is decided by the session.
 */
export class Timers {
  /** Each is a time in ms, or Infinity. */
  peerSettingsBy = Infinity;
  settingsAckBy = Infinity;
  headersBy = Infinity;
  pingAt = Infinity;
  pongBy = Infinity;
  drainBy = Infinity;
  stallCheckAt = Infinity;

  next(): number {
    return Math.min(
      this.peerSettingsBy,
      this.settingsAckBy,
      this.headersBy,
      this.pingAt,
      this.pongBy,
      this.drainBy,
      this.stallCheckAt,
    );
  }

  clear(): void {
    this.peerSettingsBy = Infinity;
    this.settingsAckBy = Infinity;
    this.headersBy = Infinity;
    this.pingAt = Infinity;
    this.pongBy = Infinity;
    this.drainBy = Infinity;
    this.stallCheckAt = Infinity;
  }
}

/** `nowMs + delayMs`, or never when the delay is 0 (off). */
export function after(nowMs: number, delayMs: number): number {
  return delayMs > 0 ? nowMs + delayMs : Infinity;
}
