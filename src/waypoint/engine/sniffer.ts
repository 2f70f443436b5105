/**
 * What a connection speaks, by its first bytes: HTTP/2's preface, an HTTP/1 request line, or something else. Asked only where the choice of a chain
 * needs it, so that protocols in which the server speaks first are not held up where it does not.
 */
import { Buffer } from "node:buffer";
import { isToken } from "../../protocol/http1/mod.ts";
import type { SniffedProtocol } from "../spec/mod.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/** A request line that is longer is looked at by nobody. */
export const MAX_SNIFFED_BYTES = 16 * 1024;
const MAX_METHOD = 32;

/** `undefined`: it takes more bytes to say. */
export function sniff(bytes: Uint8Array): SniffedProtocol | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MAX_SNIFFED_BYTES)).toString(
    "latin1",
  );
  if (PREFACE.startsWith(text.slice(0, PREFACE.length))) return text.length >= PREFACE.length ? "h2c" : undefined;
  // No method of HTTP begins otherwise, and who greets its server in lower case should not wait for more of itself; Envoy's parsers say the same.
  if (text !== "" && !(text >= "A" && text < "[")) return "other";
  const lineEnd = text.indexOf("\r\n");
  const line = lineEnd < 0 ? text : text.slice(0, lineEnd);
  const space = line.indexOf(" ");
  if (space < 0) {
    return lineEnd < 0 && text.length <= MAX_METHOD && isToken(text) ? undefined : "other";
  }
  if (space > MAX_METHOD || !isToken(line, 0, space)) return "other";
  if (lineEnd < 0) return text.length < MAX_SNIFFED_BYTES && !text.includes("\n") ? undefined : "other";
  if (line.endsWith(" HTTP/1.1")) return "http/1.1";
  return line.endsWith(" HTTP/1.0") ? "http/1.0" : "other";
}
