import { Buffer } from "node:buffer";
import { Http1Decoder } from "../../../src/protocol/http1/mod.ts";
import type { Fields, Head, Http1Limits } from "../../../src/protocol/http1/mod.ts";

export const LIMITS: Http1Limits = { maxHeadBytes: 8192, maxFields: 100, acceptHttp10: true, keepSpelling: false };

/** What a stream meant: messages as far as they came, and the fault that ended it. */
export interface Reading {
  readonly messages: Message[];
  readonly fault: string | undefined;
  readonly eof: string | undefined;
}

export interface Message {
  head: Head;
  body: string;
  trailers: Fields | undefined;
}

/** Reads `text` cut at `cuts` (ascending); every message but interim ones ends with `next`. */
export function readAll(
  role: "request" | "response",
  text: string,
  options: { readonly cuts?: readonly number[]; readonly limits?: Http1Limits; readonly method?: string } = {},
): Reading {
  const decoder = new Http1Decoder(role, options.limits ?? LIMITS);
  decoder.expect(options.method ?? "GET");
  const messages: Message[] = [];
  const sink = {
    head: (head: Head) => void messages.push({ head, body: "", trailers: undefined }),
    body(bytes: Uint8Array, start: number, end: number) {
      messages[messages.length - 1].body += Buffer.from(bytes.subarray(start, end)).toString("latin1");
    },
    complete: (trailers: Fields) => void (messages[messages.length - 1].trailers = trailers),
  };
  const bytes = Buffer.from(text, "latin1");
  const ends = [...(options.cuts ?? []), bytes.length];
  let from = 0;
  for (const end of ends) {
    // Each piece lies somewhere else, as in a real read buffer, with rubbish around it.
    const piece = Buffer.concat([Buffer.from("\r\n\r\n"), bytes.subarray(from, end), Buffer.from("\r\n\r\n")]);
    let at = 4;
    const stop = 4 + end - from;
    while (at < stop && decoder.fault === undefined) {
      at = decoder.read(piece, at, stop, sink);
      if (decoder.complete) decoder.next();
    }
    from = end;
  }
  const fault = decoder.fault;
  return {
    messages,
    fault: fault && `${fault.status} ${fault.detail}`,
    eof: fault === undefined ? decoder.readEof(sink)?.detail : undefined,
  };
}
