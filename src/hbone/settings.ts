/** The HTTP/2 settings of both ends of a tunnel, as ztunnel has them (reference ztunnel 5.8), and this proxy's own timeouts. */
import type { Http2Options } from "../protocol/http2/mod.ts";

export interface HboneSettings {
  readonly http2: Omit<Http2Options, "bufferPool">;
  /** TLS handshake, and the wait for the peer's opening. ztunnel has none; every wait here has one. */
  readonly handshakeTimeoutMs: number;
}

export interface HboneTuning {
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly maxFrameBytes: number;
}

export const defaultTuning: HboneTuning = {
  streamWindowBytes: 4 * 1024 * 1024,
  connectionWindowBytes: 16 * 1024 * 1024,
  maxFrameBytes: 1024 * 1024,
};

const CLIENT_HEADER_LIST_BYTES = 16 * 1024;
const SERVER_HEADER_LIST_BYTES = 64 * 1024;
const SERVER_STREAMS = 200;
/** Output that may wait on one connection before its streams stop reading from their applications. */
const OUTPUT_BYTES = 1024 * 1024;
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 20_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;

export function createHboneSettings(role: "client" | "server", tuning: HboneTuning = defaultTuning): HboneSettings {
  return {
    http2: {
      role,
      initialWindowBytes: tuning.streamWindowBytes,
      connectionWindowBytes: tuning.connectionWindowBytes,
      maxFrameBytes: tuning.maxFrameBytes,
      maxHeaderListBytes: role === "client" ? CLIENT_HEADER_LIST_BYTES : SERVER_HEADER_LIST_BYTES,
      maxConcurrentStreams: role === "client" ? 0 : SERVER_STREAMS,
      maxOutputBytes: OUTPUT_BYTES,
      pingIntervalMs: PING_INTERVAL_MS,
      pingTimeoutMs: PING_TIMEOUT_MS,
      settingsTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    },
    handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
  };
}

/** Output of one inner tunnel of double HBONE, which carries one connection: the tunnel around it has its own. */
const NESTED_OUTPUT_BYTES = 256 * 1024;

/** For a client's tunnel inside another tunnel: the same windows, less memory for what waits to be sent. */
export function nestedSettings(settings: HboneSettings): HboneSettings {
  return { ...settings, http2: { ...settings.http2, maxOutputBytes: NESTED_OUTPUT_BYTES } };
}
