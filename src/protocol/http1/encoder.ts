/**
 * HTTP/1.1 messages to bytes, RFC 9112. What is written is checked again: no value of another connection may end a line of this one.
 */
import { fieldName, isFieldValue, isTarget, isToken } from "./grammar.ts";
import type { Fields } from "./types.ts";

/** Name, value, …; `framing` is added by the caller as fields. */
export function requestHead(method: string, target: string, fields: Fields): string {
  if (!isToken(method) || !isTarget(target)) throw new RangeError("http1: a method or target that cannot be sent");
  return `${method} ${target} HTTP/1.1\r\n${fieldLines(fields)}\r\n`;
}

export function responseHead(status: number, fields: Fields): string {
  return `HTTP/1.1 ${status} ${REASONS[status] ?? ""}\r\n${fieldLines(fields)}\r\n`;
}

/** The last chunk and the trailer section. */
export function lastChunk(trailers: Fields): string {
  return trailers.length === 0 ? "0\r\n\r\n" : `0\r\n${fieldLines(trailers)}\r\n`;
}

/** Each field on a line. @throws RangeError for a name or value that would not be read back as it is */
export function fieldLines(fields: Fields): string {
  let lines = "";
  for (let i = 0; i < fields.length; i += 2) {
    if (fieldName(fields[i]) === undefined || !isFieldValue(fields[i + 1])) {
      throw new RangeError(`http1: the field ${JSON.stringify(fields[i])} cannot be sent`);
    }
    lines += `${fields[i]}: ${fields[i + 1]}\r\n`;
  }
  return lines;
}

/** Bytes before a chunk of `size` bytes; behind it come CR and LF. */
export function chunkLine(size: number): string {
  return `${size.toString(16)}\r\n`;
}

/** Longest `chunkLine` of a chunk below 16 MiB, with the CR and LF behind the chunk. */
export const CHUNK_OVERHEAD_BYTES = 10;

const utf8 = new TextEncoder();

/** Writes Latin-1 text at `at`, which must fit. Returns where it ends. */
export function writeLatin1(bytes: Uint8Array, at: number, text: string): number {
  const end = at + text.length;
  // Nearly all is ASCII, which UTF-8 writes alike, and fastest. Bounded, so that other text writes nothing behind.
  const { read, written } = utf8.encodeInto(text, bytes.subarray(at, end));
  if (read !== text.length || written !== text.length) {
    for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  }
  return end;
}

/** RFC 9110's reason phrases. */
const REASONS: Readonly<Record<number, string>> = {
  100: "Continue",
  101: "Switching Protocols",
  102: "Processing",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  203: "Non-Authoritative Information",
  204: "No Content",
  205: "Reset Content",
  206: "Partial Content",
  207: "Multi-Status",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  418: "I'm a teapot",
  421: "Misdirected Request",
  422: "Unprocessable Content",
  423: "Locked",
  424: "Failed Dependency",
  425: "Too Early",
  426: "Upgrade Required",
  428: "Precondition Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  451: "Unavailable For Legal Reasons",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  507: "Insufficient Storage",
  511: "Network Authentication Required",
};
