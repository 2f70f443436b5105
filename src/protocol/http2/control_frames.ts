/**
 * What the payloads of SETTINGS, PING, GOAWAY and WINDOW_UPDATE do to a connection: RFC 9113 sections 6.5 to 6.9.
 * Each is charged as overhead, so that a flood of them ends.
 */
import { Closed } from "./closed_streams.ts";
import {
  DEFAULT_MAX_FRAME_BYTES,
  ErrorCode,
  Flag,
  FrameType,
  MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  Setting,
} from "./constants.ts";
import { readUint31, readUint32 } from "./output.ts";
import type { Sender } from "./sender.ts";
import { Leaving, type Session } from "./session.ts";
import { after } from "./timers.ts";

/** No peer sends more than a dozen; nghttp2 draws the same line. */
export const MAX_SETTINGS_BYTES = 32 * 6;
/** What is kept of the peer's explanation in GOAWAY. */
const MAX_DEBUG_BYTES = 256;
/** A setting may make every stream's window move: that many streams cost as much as one more frame. */
const STREAMS_PER_COST = 32;

/** Opaque data of our PINGs: a tag and what it is for. */
export const PingPurpose = { KEEPALIVE: 1, DRAIN: 2 } as const;
const PING_TAG = [0x61, 0x6d, 0x62, 0x69, 0x74, 0, 0];

export function writePing<U>(session: Session<U>, purpose: number): void {
  const at = session.output.frame(8, FrameType.PING, 0, 0);
  for (let i = 0; i < PING_TAG.length; i++) session.output.bytes[at + i] = PING_TAG[i];
  session.output.bytes[at + PING_TAG.length] = purpose;
}

/** The peer's SETTINGS. Returns nothing; a fault fails the session. */
export function onSettings<U>(
  session: Session<U>,
  sender: Sender<U>,
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  if (!session.chargeOverhead(1 + Math.floor(session.streams.size / STREAMS_PER_COST), "SETTINGS")) return;
  // What a server does not limit in its first SETTINGS it does not limit at all.
  if (!session.settingsSeen) session.peerMaxConcurrent = MAX_WINDOW_BYTES;
  session.settingsSeen = true;
  session.timers.peerSettingsBy = Infinity;
  for (let pos = start; pos < end; pos += 6) {
    applySetting(session, sender, bytes[pos] << 8 | bytes[pos + 1], readUint32(bytes, pos + 2));
    if (session.failed) return;
  }
  if (session.reply(0, FrameType.SETTINGS, Flag.ACK, 0) >= 0) session.handlers.settings();
}

function applySetting<U>(session: Session<U>, sender: Sender<U>, id: number, value: number): void {
  switch (id) {
    case Setting.HEADER_TABLE_SIZE:
      session.encoder.setPeerLimit(value);
      return;
    case Setting.ENABLE_PUSH:
      // Only a client may offer to take pushes; this end never pushes.
      if (value > 1 || (value === 1 && !session.isServer)) session.fail(ErrorCode.PROTOCOL_ERROR, "bad ENABLE_PUSH");
      return;
    case Setting.MAX_CONCURRENT_STREAMS:
      session.peerMaxConcurrent = value;
      return;
    case Setting.INITIAL_WINDOW_SIZE: {
      if (value > MAX_WINDOW_BYTES) {
        session.fail(ErrorCode.FLOW_CONTROL_ERROR, "initial window above its limit");
        return;
      }
      const delta = value - session.peerInitialWindow;
      session.peerInitialWindow = value;
      if (delta === 0) return;
      for (const stream of session.streams.values()) {
        if (sender.growStream(stream, delta)) continue;
        session.fail(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS push a stream's window above its limit");
        return;
      }
      return;
    }
    case Setting.MAX_FRAME_SIZE:
      if (value < DEFAULT_MAX_FRAME_BYTES || value > MAX_FRAME_BYTES) {
        session.fail(ErrorCode.PROTOCOL_ERROR, "frame size outside its limits");
        return;
      }
      session.peerMaxFrame = value;
      return;
    case Setting.ENABLE_CONNECT_PROTOCOL:
      if (value > 1 || (value === 0 && session.peerConnectProtocol)) {
        session.fail(ErrorCode.PROTOCOL_ERROR, "bad ENABLE_CONNECT_PROTOCOL");
        return;
      }
      session.peerConnectProtocol = value === 1;
      return;
  }
}

/** The peer has our SETTINGS: a smaller window than the RFC's applies from here on. */
export function onSettingsAck<U>(session: Session<U>): void {
  if (session.settingsAcked) {
    session.chargeOverhead(1, "SETTINGS acknowledgements");
    return;
  }
  session.settingsAcked = true;
  session.timers.settingsAckBy = Infinity;
  const delta = session.options.initialWindowBytes - session.recvInitialWindow;
  session.recvInitialWindow = session.options.initialWindowBytes;
  if (delta === 0) return;
  for (const stream of session.streams.values()) stream.recvWindow += delta;
}

export function onPing<U>(session: Session<U>, ack: boolean, bytes: Uint8Array, start: number): void {
  if (!ack) {
    if (!session.chargeOverhead(1, "PING")) return;
    const at = session.reply(8, FrameType.PING, Flag.ACK, 0);
    if (at < 0) return;
    for (let i = 0; i < 8; i++) session.output.bytes[at + i] = bytes[start + i];
    return;
  }
  const purpose = isOurs(bytes, start) ? bytes[start + PING_TAG.length] : 0;
  if (purpose === PingPurpose.KEEPALIVE && session.timers.pongBy !== Infinity) {
    session.timers.pongBy = Infinity;
    session.timers.pingAt = after(session.nowMs, session.options.pingIntervalMs);
    session.handlers.pong?.();
  } else if (purpose === PingPurpose.DRAIN && session.leaving === Leaving.ANNOUNCED) {
    session.leave(ErrorCode.NO_ERROR, "", true);
  } else {
    session.chargeOverhead(1, "PING acknowledgements");
  }
}

function isOurs(bytes: Uint8Array, start: number): boolean {
  for (let i = 0; i < PING_TAG.length; i++) {
    if (bytes[start + i] !== PING_TAG[i]) return false;
  }
  return true;
}

export function onGoaway<U>(session: Session<U>, bytes: Uint8Array, start: number, end: number): void {
  if (!session.chargeOverhead(1, "GOAWAY")) return;
  const lastId = readUint31(bytes, start);
  const code = readUint32(bytes, start + 4);
  const debugEnd = Math.min(end, start + 8 + MAX_DEBUG_BYTES);
  let debug = "";
  for (let pos = start + 8; pos < debugEnd; pos++) debug += String.fromCharCode(bytes[pos]);
  session.peerLeaving = true;
  session.handlers.goaway(lastId, code, debug);
  if (!session.isServer) {
    for (const stream of [...session.streams.values()]) {
      if (stream.id <= lastId || stream.isClosed) continue;
      session.handlers.reset(stream, ErrorCode.REFUSED_STREAM, true);
      session.close(stream, Closed.RESET_BY_PEER);
    }
  }
  session.checkDrained();
}

export function onWindowUpdate<U>(
  session: Session<U>,
  sender: Sender<U>,
  streamId: number,
  bytes: Uint8Array,
  start: number,
): void {
  if (!session.chargeOverhead(1, "WINDOW_UPDATE")) return;
  const increment = readUint31(bytes, start);
  if (streamId === 0) {
    if (increment === 0) session.fail(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0");
    else if (!sender.growConnection(increment)) {
      session.fail(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is above its limit");
    }
    return;
  }
  const stream = session.streams.get(streamId);
  if (stream === undefined) return;
  if (increment === 0) session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0");
  else if (!sender.growStream(stream, increment)) {
    session.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is above its limit");
  }
}
