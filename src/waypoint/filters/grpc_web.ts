/**
 * Envoy's grpc_web: what browsers can speak of gRPC (github.com/grpc/grpc, doc/PROTOCOL-WEB.md) becomes gRPC for the endpoint. Trailers come back as the
 * last frame of the body; the text form is all of that in base64.
 */
import { Buffer } from "node:buffer";
import { grpcStatusOf, isGrpc } from "../engine/local_answer.ts";
import type {
  FilterOutcome,
  HttpFilter,
  RequestContext,
  RequestRewrite,
  ResponseRewrite,
} from "../engine/request_context.ts";
import type { FieldList } from "../http/exchange.ts";
import { first, has, remove, set } from "../http/fields.ts";
import { Base64Reader } from "./base64_reader.ts";

const NOTHING = new Uint8Array(0);
const TRAILER_FRAME = 0x80;
const PREFIX_BYTES = 5;
const TYPE = /^application\/grpc-web(-text)?(?:\+([a-z0-9.-]+))?\s*(?:;.*)?$/i;

export const grpcWebFilter: HttpFilter = {
  name: "envoy.filters.http.grpc_web",
  request(context): FilterOutcome {
    const { headers } = context.head;
    const type = TYPE.exec(first(headers, "content-type") ?? "");
    if (type === null) return "pass";
    const [, text, format] = type;
    const accept = first(headers, "accept");
    const textAnswer = accept === undefined ? text !== undefined : /application\/grpc-web-text\b/i.test(accept);
    set(headers, "content-type", format === undefined ? "application/grpc" : `application/grpc+${format}`);
    set(headers, "te", "trailers");
    if (!has(headers, "grpc-accept-encoding")) headers.push("grpc-accept-encoding", "identity,deflate,gzip");
    // It was that of the body as the browser sent it.
    remove(headers, "content-length");
    context.clearRoute();
    answerInKind(context, textAnswer, format ?? "proto");
    if (text === undefined) return "pass";
    let refused = false;
    context.onEnd(() => refused = true);
    context.rewriteRequestBody(new TextRequest());
    return refused ? "answered" : "pass";
  },
};

function answerInKind(context: RequestContext, text: boolean, format: string): void {
  const answer = new WebResponse(text);
  context.onResponse((head) => {
    const { headers } = head;
    if (!isGrpcAnswer(headers)) {
      // A page of somebody in between is no message: its status is all that a client of gRPC understands.
      answer.isGrpc = false;
      set(headers, "grpc-status", String(grpcStatusOf(head.status)));
      set(headers, "grpc-message", `the endpoint answered HTTP ${head.status} without gRPC`);
      head.status = 200;
    }
    remove(headers, "content-length");
    set(headers, "content-type", `application/grpc-web${text ? "-text" : ""}+${format}`);
  });
  context.rewriteResponseBody(answer);
}

function isGrpcAnswer(headers: FieldList): boolean {
  return isGrpc({ headers });
}

class TextRequest implements RequestRewrite {
  readonly refusal = {
    status: 400,
    body: "Bad gRPC-web request, invalid base64 data.",
    details: "grpc_base_64_decode_failed",
    grpcStatus: 3,
  };
  readonly #base64 = new Base64Reader();

  data(bytes: Uint8Array, start: number, end: number): Uint8Array | undefined {
    return this.#base64.read(bytes, start, end);
  }

  isWhole(): boolean {
    return this.#base64.isWhole;
  }
}

/** Exported for its tests. */
export class WebResponse implements ResponseRewrite {
  /** Otherwise its body says nothing to the client. */
  isGrpc = true;
  readonly #text: boolean;

  constructor(text: boolean) {
    this.#text = text;
  }

  /** As text each piece is padded: its last bytes must not wait for the next piece. Clients take padding anywhere, as the protocol says. */
  data(bytes: Uint8Array, start: number, end: number): Uint8Array {
    if (!this.isGrpc || start === end) return NOTHING;
    return this.#text ? encoded(bytes.subarray(start, end)) : bytes.subarray(start, end);
  }

  end(trailers: readonly string[]): Uint8Array {
    if (!this.isGrpc || trailers.length === 0) return NOTHING;
    let lines = "";
    for (let i = 0; i < trailers.length; i += 2) lines += `${trailers[i]}:${trailers[i + 1]}\r\n`;
    const frame = Buffer.alloc(PREFIX_BYTES + lines.length);
    frame[0] = TRAILER_FRAME;
    frame.writeUInt32BE(lines.length, 1);
    frame.write(lines, PREFIX_BYTES, "latin1");
    return this.#text ? encoded(frame) : frame;
  }
}

function encoded(bytes: Uint8Array): Uint8Array {
  const { buffer, byteOffset, length } = bytes;
  return Buffer.from(Buffer.from(buffer, byteOffset, length).toString("base64"), "latin1");
}
