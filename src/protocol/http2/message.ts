/**
 * Collects one decoded header block and judges it as a message: RFC 9113 sections 8.1 to 8.5.
 *
 * Holds the list within its limit: past it, fields are dropped while the block is still decoded, since the
 * table must follow the peer's. One object serves a whole connection; `fields` is fresh for each block.
 */
import { FieldKind, LAST_PSEUDO } from "./field_kind.ts";
import type { FieldSink } from "./hpack_decoder.ts";
import { ENTRY_OVERHEAD_BYTES } from "./hpack_static.ts";
import type { Fields } from "./types.ts";

const bit = (kind: number): number => 1 << kind;
const METHOD = bit(FieldKind.METHOD);
const SCHEME = bit(FieldKind.SCHEME);
const AUTHORITY = bit(FieldKind.AUTHORITY);
const PATH = bit(FieldKind.PATH);
const PROTOCOL = bit(FieldKind.PROTOCOL);
const STATUS = bit(FieldKind.STATUS);
const ORDINARY_REQUEST = METHOD | SCHEME | PATH;

const NO_NAMES: readonly string[] = [];
/** One more than the encoder tells apart. */
const MAX_SENSITIVE = 65;

export class Message implements FieldSink {
  fields: string[] = [];
  tooLarge = false;
  /** Value of content-length, or -1. */
  contentLength = -1;
  /** Of a response, else 0. */
  status = 0;
  /** Names that came as never indexed; a forwarder passes them to `markSensitive`. */
  sensitive: readonly string[] = NO_NAMES;
  #malformed = "";
  #pseudo = 0;
  #regularSeen = false;
  #listBytes = 0;
  #method = "";
  #scheme = "";
  #authority = "";
  #path = "";
  #host = "";
  #hosts = 0;
  readonly #maxListBytes: number;

  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  begin(): void {
    this.fields = [];
    this.tooLarge = false;
    this.contentLength = -1;
    this.status = 0;
    this.sensitive = NO_NAMES;
    this.#malformed = "";
    this.#pseudo = 0;
    this.#regularSeen = false;
    this.#listBytes = 0;
    this.#hosts = 0;
  }

  get isConnect(): boolean {
    return (this.#pseudo & METHOD) !== 0 && this.#method === "CONNECT" && (this.#pseudo & PROTOCOL) === 0;
  }

  get isHead(): boolean {
    return (this.#pseudo & METHOD) !== 0 && this.#method === "HEAD";
  }

  field(name: string, value: string, kind: number, neverIndexed: boolean): void {
    this.#listBytes += name.length + value.length + ENTRY_OVERHEAD_BYTES;
    if (this.#listBytes > this.#maxListBytes) {
      this.tooLarge = true;
      return;
    }
    this.fields.push(name, value);
    if (neverIndexed && this.sensitive.length < MAX_SENSITIVE) this.sensitive = [...this.sensitive, name];
    if (kind === FieldKind.REGULAR) {
      this.#regularSeen = true;
      return;
    }
    this.#special(name, value, kind);
  }

  #special(name: string, value: string, kind: number): void {
    if (kind === FieldKind.MALFORMED) {
      this.#malformed ||= `field ${JSON.stringify(name.slice(0, 64))} is not allowed or has a bad value`;
      return;
    }
    if (kind <= LAST_PSEUDO) {
      if (this.#regularSeen) this.#malformed ||= `${name} after a regular field`;
      if ((this.#pseudo & bit(kind)) !== 0) this.#malformed ||= `${name} twice`;
      this.#pseudo |= bit(kind);
    } else {
      this.#regularSeen = true;
    }
    switch (kind) {
      case FieldKind.METHOD:
        this.#method = value;
        break;
      case FieldKind.SCHEME:
        this.#scheme = value;
        break;
      case FieldKind.AUTHORITY:
        this.#authority = value;
        break;
      case FieldKind.PATH:
        this.#path = value;
        break;
      case FieldKind.STATUS:
        this.status = Number(value);
        break;
      case FieldKind.HOST:
        this.#host = value;
        this.#hosts++;
        break;
      case FieldKind.CONTENT_LENGTH: {
        const length = Number(value);
        if (this.contentLength >= 0 && this.contentLength !== length) {
          this.#malformed ||= "content-length contradicts itself";
        }
        this.contentLength = length;
        break;
      }
    }
  }

  /** Why this is no well-formed request, or "". */
  requestFault(extendedConnect: boolean): string {
    if (this.#malformed !== "") return this.#malformed;
    const pseudo = this.#pseudo;
    if ((pseudo & STATUS) !== 0) return ":status in a request";
    if ((pseudo & METHOD) === 0) return "no :method";
    if (this.#hosts > 1) return "host twice";
    if ((pseudo & PROTOCOL) !== 0) {
      if (!extendedConnect) return ":protocol was not offered";
      if (this.#method !== "CONNECT") return ":protocol without CONNECT";
    } else if (this.#method === "CONNECT") {
      if (pseudo !== (METHOD | AUTHORITY)) return "CONNECT takes :authority alone";
      return this.#authority === "" ? "CONNECT without :authority" : "";
    }
    if ((pseudo & ORDINARY_REQUEST) !== ORDINARY_REQUEST) return "a required pseudo-header field is missing";
    if (this.#path === "") return "empty :path";
    if (this.#scheme !== "http" && this.#scheme !== "https") return "";
    if (this.#path.charCodeAt(0) !== 0x2f && !(this.#path === "*" && this.#method === "OPTIONS")) {
      return ":path is not absolute";
    }
    if ((pseudo & AUTHORITY) === 0) return "";
    if (this.#authority.includes("@")) return ":authority with user information";
    const differs = this.#hosts === 1 && this.#host.toLowerCase() !== this.#authority.toLowerCase();
    return differs ? "host differs from :authority" : "";
  }

  /** Why this is no well-formed response, or "". */
  responseFault(): string {
    if (this.#malformed !== "") return this.#malformed;
    if (this.#pseudo !== STATUS) return "a response has :status and no other pseudo-header field";
    if (this.status < 100 || this.status === 101) return "status that HTTP/2 does not have";
    return "";
  }

  /** Why these are no well-formed trailers, or "". */
  trailersFault(): string {
    if (this.#malformed !== "") return this.#malformed;
    return this.#pseudo !== 0 ? "a pseudo-header field in trailers" : "";
  }
}

/** The value of a field of an outgoing list, or "" when it is not there. */
export function valueOf(fields: Fields, name: string): string {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i] === name) return fields[i + 1];
  }
  return "";
}
