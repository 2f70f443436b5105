/**
 * A TLS ClientHello made by hand (RFC 8446 section 4.1.2), to offer what no library would offer on purpose. Only the server's
 * first answer matters, so the key share is any 32 bytes, which X25519 takes for a point.
 */
import { randomBytes } from "node:crypto";

const RECORD_HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const TLS12_SUITES = [0xc02b, 0xc02c, 0xc02f, 0xc030];
const TLS13_SUITES = [0x1301, 0x1302];
const X25519 = 0x001d;
const SIGNATURES = [0x0403, 0x0804, 0x0401];

/** Alerts, RFC 8446 section 6, as `[level, description]`. */
export const ALERT = { protocolVersion: [2, 70], noApplicationProtocol: [2, 120] } as const;

export function clientHello(version: "1.2" | "1.3", alpn: readonly string[]): Uint8Array {
  const extensions = [
    extension(10, vector16(words(X25519))),
    extension(13, vector16(words(...SIGNATURES))),
    extension(11, [1, 0]),
    ...(alpn.length > 0 ? [extension(16, vector16(alpn.flatMap((name) => vector8([...Buffer.from(name)]))))] : []),
    ...(version === "1.3"
      ? [
        extension(43, vector8(words(0x0304))),
        extension(51, vector16([...words(X25519), ...vector16([...randomBytes(32)])])),
      ]
      : []),
  ].flat();
  const body = [
    ...words(0x0303),
    ...randomBytes(32),
    ...vector8([...randomBytes(32)]),
    ...vector16(words(...(version === "1.3" ? TLS13_SUITES : TLS12_SUITES))),
    ...vector8([0]),
    ...vector16(extensions),
  ];
  const message = [CLIENT_HELLO, 0, ...vector16(body)];
  return new Uint8Array([RECORD_HANDSHAKE, ...words(0x0301), ...vector16(message)]);
}

/** The alert in a server's answer, if it is one. */
export function readAlert(bytes: Uint8Array): readonly number[] | undefined {
  return bytes[0] === 21 ? [...bytes.subarray(5, 7)] : undefined;
}

function words(...values: readonly number[]): number[] {
  return values.flatMap((value) => [value >> 8, value & 255]);
}

function vector8(bytes: readonly number[]): number[] {
  return [bytes.length, ...bytes];
}

function vector16(bytes: readonly number[]): number[] {
  return [...words(bytes.length), ...bytes];
}

function extension(type: number, body: readonly number[]): number[] {
  return [...words(type), ...vector16(body)];
}
