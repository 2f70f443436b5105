/**
 * The server name in a TLS ClientHello, RFC 8446 section 4.1.2 and RFC 6066 section 3. Sans-io; looks at what a client says first, decides nothing.
 */

export type ClientHello =
  /** It takes more bytes to say. */
  | { readonly kind: "more" }
  /** These bytes are no ClientHello. */
  | { readonly kind: "none" }
  /** `sni` is lower case; "" when the client names nobody. */
  | { readonly kind: "hello"; readonly sni: string };

const MORE: ClientHello = { kind: "more" };
const NONE: ClientHello = { kind: "none" };
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER = 5;
/** A record's plaintext, RFC 8446 section 5.1. */
const MAX_RECORD = 16_384;
/** With a post-quantum key share and a ticket a hello has some 2 KiB. */
export const MAX_CLIENT_HELLO = 16 * 1024;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const NAME = /^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$/;

/** `bytes` from the first byte of the connection. */
export function readClientHello(bytes: Uint8Array): ClientHello {
  const body = handshake(bytes);
  if (!(body instanceof Uint8Array)) return body;
  const reader = new Reader(body);
  reader.skip(2 + 32);
  reader.skip(reader.u8());
  reader.skip(reader.u16());
  reader.skip(reader.u8());
  if (reader.failed) return NONE;
  // A hello of TLS 1.2 may end here.
  if (reader.left === 0) return { kind: "hello", sni: "" };
  const extensions = reader.part(reader.u16());
  while (extensions.left > 0 && !extensions.failed) {
    const type = extensions.u16();
    const extension = extensions.part(extensions.u16());
    if (type !== SERVER_NAME) continue;
    const names = extension.part(extension.u16());
    const isHost = names.u8() === HOST_NAME;
    const name = names.text(names.u16()).toLowerCase();
    if (names.failed || !isHost || !NAME.test(name)) return NONE;
    return { kind: "hello", sni: name };
  }
  return extensions.failed || reader.failed ? NONE : { kind: "hello", sni: "" };
}

/** The body of the first handshake message, which may be spread over records. */
function handshake(bytes: Uint8Array): Uint8Array | ClientHello {
  const parts: Uint8Array[] = [];
  let held = 0, wanted = 4;
  for (let at = 0; held < wanted;) {
    if (at >= bytes.length) return MORE;
    if (bytes[at] !== HANDSHAKE) return NONE;
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return NONE;
    if (at + RECORD_HEADER > bytes.length) return MORE;
    const length = bytes[at + 3] << 8 | bytes[at + 4];
    if (length === 0 || length > MAX_RECORD) return NONE;
    const part = bytes.subarray(at + RECORD_HEADER, Math.min(bytes.length, at + RECORD_HEADER + length));
    parts.push(part);
    held += part.length;
    const head = held >= 4 && wanted === 4 ? joined(parts, held) : undefined;
    if (parts[0].length > 0 && parts[0][0] !== CLIENT_HELLO) return NONE;
    if (head !== undefined) {
      wanted = 4 + (head[1] << 16 | head[2] << 8 | head[3]);
      if (wanted > MAX_CLIENT_HELLO) return NONE;
    }
    if (held < wanted && part.length < length) return MORE;
    at += RECORD_HEADER + length;
  }
  return joined(parts, held).subarray(4, wanted);
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Reads past the end as zeros, and remembers that it did. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;
  failed = false;

  constructor(bytes: Uint8Array, failed = false) {
    this.#bytes = bytes;
    this.failed = failed;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    if (this.left < 1) this.failed = true;
    return this.failed ? 0 : this.#bytes[this.#at++];
  }

  u16(): number {
    const high = this.u8();
    return high << 8 | this.u8();
  }

  skip(length: number): void {
    if (this.left < length) this.failed = true;
    else this.#at += length;
  }

  part(length: number): Reader {
    const start = this.#at;
    this.skip(length);
    return new Reader(this.failed ? new Uint8Array(0) : this.#bytes.subarray(start, this.#at), this.failed);
  }

  text(length: number): string {
    const start = this.#at;
    this.skip(length);
    let text = "";
    if (!this.failed) { for (let i = start; i < this.#at; i++) text += String.fromCharCode(this.#bytes[i]); }
    return text;
  }
}
