/**
 * A whole head, as text, to a head: RFC 9112 sections 2 to 6. What a lenient parser might read differently (bare LF, space before a colon,
 * folded lines, both a length and chunks, two hosts) is a fault.
 */
import { fieldName, isFieldValue, isTarget, isToken, listMembers, readLength } from "./grammar.ts";
import type { Fields, Framing, Head, Http1Fault, Http1Limits, RequestLine, StatusLine } from "./types.ts";

export class Http1Error extends Error {
  override readonly name = "Http1Error";
  constructor(readonly fault: Http1Fault) {
    super(fault.detail);
  }
}

export function fail(detail: string, status: Http1Fault["status"] = 400): never {
  throw new Http1Error({ status, detail });
}

const CODEC_ERROR = "http1.codec_error";

/** `text`: from the first line to the last field line's CRLF, without the empty line. @throws Http1Error */
export function parseRequestHead(text: string, bytes: number, limits: Http1Limits): Head<RequestLine> {
  const lineEnd = text.indexOf("\r\n");
  const line = readRequestLine(text, lineEnd);
  if (line.minor === 0 && !limits.acceptHttp10) fail("http1.unsupported_version", 426);
  const { fields, spelling } = readFields(text, lineEnd + 2, limits);
  const notes = readNotes(fields);
  if (notes.hosts > 1) fail("http1.duplicate_host");
  if (notes.hosts === 0 && line.minor === 1) fail("http1.missing_host");
  return {
    line,
    fields,
    spelling,
    framing: requestFraming(notes, line.minor),
    close: closes(notes, line.minor),
    bytes,
  };
}

/** `method`: of the request it answers. @throws Http1Error */
export function parseResponseHead(text: string, bytes: number, limits: Http1Limits, method: string): Head<StatusLine> {
  const lineEnd = text.indexOf("\r\n");
  const line = readStatusLine(text, lineEnd);
  const { fields, spelling } = readFields(text, lineEnd + 2, limits);
  const notes = readNotes(fields);
  const framing = responseFraming(notes, line, method);
  return { line, fields, spelling, framing, close: closes(notes, line.minor) || framing.kind === "close", bytes };
}

function readRequestLine(text: string, end: number): RequestLine {
  const first = text.indexOf(" ");
  const second = text.indexOf(" ", first + 1);
  if (first <= 0 || second < 0 || second >= end) fail(CODEC_ERROR);
  if (!isToken(text, 0, first) || !isTarget(text, first + 1, second)) fail(CODEC_ERROR);
  return {
    kind: "request",
    method: text.slice(0, first),
    target: text.slice(first + 1, second),
    minor: readVersion(text, second + 1, end),
  };
}

function readVersion(text: string, start: number, end: number): 0 | 1 {
  if (end - start !== 8 || !text.startsWith("HTTP/", start)) fail(CODEC_ERROR);
  if (text.startsWith("1.1", start + 5)) return 1;
  if (text.startsWith("1.0", start + 5)) return 0;
  fail("http1.unsupported_version", 505);
}

function readStatusLine(text: string, end: number): StatusLine {
  const minor = readVersion(text, 0, 8);
  const status = readLength(text.slice(9, 12));
  // The reason may be missing, and then often the space before it too.
  if (text[8] !== " " || status === undefined || status < 100 || (end > 12 && text[12] !== " ")) fail(CODEC_ERROR);
  if (!isFieldValue(text.slice(12, end))) fail(CODEC_ERROR);
  return { kind: "response", status, minor };
}

/** Field lines from `start`, each with its CRLF. */
export function readFields(
  text: string,
  start: number,
  limits: Http1Limits,
): { readonly fields: Fields; readonly spelling: string[] | undefined } {
  const fields: Fields = [];
  const spelling: string[] | undefined = limits.keepSpelling ? [] : undefined;
  for (let at = start; at < text.length;) {
    const end = text.indexOf("\r\n", at);
    const colon = text.indexOf(":", at);
    // A name that is a token has no space in or behind it and begins no folded line.
    if (colon < 0 || colon > end) fail(CODEC_ERROR);
    const spelled = text.slice(at, colon);
    const name = fieldName(spelled) ?? fail(CODEC_ERROR);
    let from = colon + 1, to = end;
    while (from < to && isSpace(text.charCodeAt(from))) from++;
    while (to > from && isSpace(text.charCodeAt(to - 1))) to--;
    const value = text.slice(from, to);
    if (!isFieldValue(value)) fail(CODEC_ERROR);
    fields.push(name, value);
    spelling?.push(spelled);
    if (fields.length > 2 * limits.maxFields) fail("http1.too_many_headers", 431);
    at = end + 2;
  }
  return { fields, spelling };
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** What the fields say about the message itself. */
interface Notes {
  hosts: number;
  length: string | undefined;
  encoding: string | undefined;
  connection: readonly string[];
}

const NOTHING: readonly string[] = [];

function readNotes(fields: Fields): Notes {
  const notes: Notes = { hosts: 0, length: undefined, encoding: undefined, connection: NOTHING };
  for (let i = 0; i < fields.length; i += 2) {
    switch (fields[i]) {
      case "host":
        notes.hosts++;
        break;
      case "content-length":
        // Twice the same is as good a smuggler's tool as twice another.
        if (notes.length !== undefined) fail("http1.multiple_content_length");
        notes.length = fields[i + 1];
        break;
      case "transfer-encoding":
        notes.encoding = notes.encoding === undefined ? fields[i + 1] : `${notes.encoding},${fields[i + 1]}`;
        break;
      case "connection":
        notes.connection = [...notes.connection, ...listMembers(fields[i + 1])];
        break;
    }
  }
  return notes;
}

function closes({ connection }: Notes, minor: 0 | 1): boolean {
  if (connection.includes("close")) return true;
  return minor === 0 && !connection.includes("keep-alive");
}

function requestFraming(notes: Notes, minor: 0 | 1): Framing {
  return explicitFraming(notes, minor) ?? { kind: "none" };
}

function responseFraming(notes: Notes, { status, minor }: StatusLine, method: string): Framing {
  const explicit = explicitFraming(notes, minor);
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return { kind: "none" };
  if (method === "CONNECT" && status < 300) return { kind: "none" };
  return explicit ?? { kind: "close" };
}

function explicitFraming({ length, encoding }: Notes, minor: 0 | 1): Framing | undefined {
  if (encoding !== undefined) {
    if (minor === 0) fail("http1.transfer_encoding_in_http10");
    if (length !== undefined) fail("http1.content_length_and_chunked_not_allowed");
    if (encoding.toLowerCase() !== "chunked") fail("http1.invalid_transfer_encoding", 501);
    return { kind: "chunked" };
  }
  if (length === undefined) return undefined;
  const bytes = readLength(length) ?? fail("http1.invalid_content_length");
  return bytes === 0 ? { kind: "none" } : { kind: "length", bytes };
}
