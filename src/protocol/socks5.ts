/**
 * The server's half of a SOCKS5 handshake (RFC 1928): CONNECT without authentication. Sans-io.
 *
 * The reader asks for `wanted` bytes at most, so that it never takes one of the connection that follows.
 */

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const NO_ACCEPTABLE_METHOD = 0xff;
const COMMAND_CONNECT = 1;
const ADDRESS_IPV4 = 1;
const ADDRESS_NAME = 3;
const ADDRESS_IPV6 = 4;
const PORT_BYTES = 2;
/** VER, CMD, RSV, ATYP, and the first byte of the address, which is the length of a name. */
const REQUEST_HEAD_BYTES = 5;

/** RFC 1928 section 6. */
export const SocksReply = {
  SUCCEEDED: 0,
  GENERAL_FAILURE: 1,
  NOT_ALLOWED: 2,
  NETWORK_UNREACHABLE: 3,
  HOST_UNREACHABLE: 4,
  CONNECTION_REFUSED: 5,
  COMMAND_NOT_SUPPORTED: 7,
  ADDRESS_NOT_SUPPORTED: 8,
} as const;

export type SocksTarget =
  /** 4 or 16 bytes. */
  | { readonly kind: "address"; readonly ip: Uint8Array; readonly port: number }
  /** Printable ASCII, as the client wrote it: a name, or an address as text. */
  | { readonly kind: "name"; readonly name: string; readonly port: number };

export type SocksEvent =
  /** Send it and read on. */
  | { readonly kind: "reply"; readonly bytes: Uint8Array }
  /** The whole request: what follows are the connection's own bytes. */
  | { readonly kind: "connect"; readonly target: SocksTarget }
  /** Send it, if there is something, and close. */
  | { readonly kind: "failed"; readonly bytes: Uint8Array; readonly message: string };

const NOTHING = new Uint8Array(0);
const PRINTABLE = /^[\x21-\x7e]+$/;

/** The answer to a request. The bound address is told as unspecified: a client that lives in the same pod has no use for it. */
export function encodeSocksReply(code: number): Uint8Array {
  return new Uint8Array([VERSION, code, 0, ADDRESS_IPV4, 0, 0, 0, 0, 0, 0]);
}

export class SocksHandshake {
  /** 255 methods, or a request with a name of 255 bytes. */
  readonly #bytes = new Uint8Array(REQUEST_HEAD_BYTES + 255 + PORT_BYTES);
  #length = 0;
  #phase: "greeting" | "request" | "over" = "greeting";

  /** How many bytes the next read may bring; 0 when the handshake is over. */
  get wanted(): number {
    return this.#phase === "over" ? 0 : this.#needed() - this.#length;
  }

  /** Takes `bytes[start, end)`, at most `wanted`. Undefined: more is needed. */
  receive(bytes: Uint8Array, start: number, end: number): SocksEvent | undefined {
    if (end - start > this.wanted) throw new RangeError("SOCKS: more bytes than the handshake asked for");
    this.#bytes.set(bytes.subarray(start, end), this.#length);
    this.#length += end - start;
    if (this.#length > 0 && this.#bytes[0] !== VERSION) {
      return this.#fail(NOTHING, `the client speaks version ${this.#bytes[0]}, not SOCKS5`);
    }
    if (this.#length < this.#needed()) return undefined;
    return this.#phase === "greeting" ? this.#greeted() : this.#requested();
  }

  /** Bytes of the message that is being read, as far as its length is known. */
  #needed(): number {
    const bytes = this.#bytes;
    if (this.#phase === "greeting") return this.#length < 2 ? 2 : 2 + bytes[1];
    if (this.#length < REQUEST_HEAD_BYTES) return REQUEST_HEAD_BYTES;
    switch (bytes[3]) {
      case ADDRESS_IPV4:
        return 4 + 4 + PORT_BYTES;
      case ADDRESS_IPV6:
        return 4 + 16 + PORT_BYTES;
      case ADDRESS_NAME:
        return REQUEST_HEAD_BYTES + bytes[4] + PORT_BYTES;
      default:
        return REQUEST_HEAD_BYTES;
    }
  }

  #greeted(): SocksEvent {
    if (!this.#bytes.subarray(2, this.#length).includes(NO_AUTHENTICATION)) {
      return this.#fail(
        new Uint8Array([VERSION, NO_ACCEPTABLE_METHOD]),
        "the client wants to authenticate, which is not offered",
      );
    }
    this.#length = 0;
    this.#phase = "request";
    return { kind: "reply", bytes: new Uint8Array([VERSION, NO_AUTHENTICATION]) };
  }

  #requested(): SocksEvent {
    const bytes = this.#bytes;
    if (bytes[1] !== COMMAND_CONNECT) {
      return this.#fail(
        encodeSocksReply(SocksReply.COMMAND_NOT_SUPPORTED),
        `command ${bytes[1]} is not served, only CONNECT`,
      );
    }
    const port = bytes[this.#length - 2] << 8 | bytes[this.#length - 1];
    switch (bytes[3]) {
      case ADDRESS_IPV4:
        return this.#connect({ kind: "address", ip: bytes.slice(4, 8), port });
      case ADDRESS_IPV6:
        return this.#connect({ kind: "address", ip: bytes.slice(4, 20), port });
      case ADDRESS_NAME: {
        const name = String.fromCharCode(...bytes.subarray(REQUEST_HEAD_BYTES, this.#length - PORT_BYTES));
        if (PRINTABLE.test(name)) return this.#connect({ kind: "name", name, port });
        return this.#fail(encodeSocksReply(SocksReply.HOST_UNREACHABLE), "the client asks for a name that no host has");
      }
      default:
        return this.#fail(
          encodeSocksReply(SocksReply.ADDRESS_NOT_SUPPORTED),
          `address type ${bytes[3]} is not known`,
        );
    }
  }

  #connect(target: SocksTarget): SocksEvent {
    this.#phase = "over";
    return { kind: "connect", target };
  }

  #fail(bytes: Uint8Array, message: string): SocksEvent {
    this.#phase = "over";
    return { kind: "failed", bytes, message };
  }
}
