/**
 * A request's body on its way to one endpoint, or to several one after the other. As long as it is short it is kept, so that a try can be repeated;
 * a longer one is passed on as it comes, and the request is tried once.
 */
import type { ClientExchange, FieldList, ServerExchange } from "../http/exchange.ts";
import { HIGH_WATER_BYTES } from "../transport/byte_stream.ts";
import { copyOf } from "../transport/copy.ts";

const NO_BYTES = new Uint8Array(0);

export class RequestBody {
  ended: boolean;
  trailers: FieldList | undefined;
  /** All of it so far is still here. */
  replayable = true;
  /** Bytes so far. */
  total = 0;
  readonly #source: ServerExchange;
  readonly #maxKept: number;
  #parts: Uint8Array[] = [];
  #keptBytes = 0;
  #to: ClientExchange | undefined;
  /** Credit that the client waits for. */
  #owed = 0;

  constructor(source: ServerExchange, ended: boolean, maxKept: number) {
    this.#source = source;
    this.ended = ended;
    this.#maxKept = maxKept;
  }

  /** `came`: bytes of the client that these stand for, whose credit is given back with them. */
  receive(bytes: Uint8Array, start: number, end: number, ended: boolean, came: number): void {
    const size = end - start;
    this.total += size;
    if (ended) this.ended = true;
    const to = this.#to;
    if (size > 0) {
      if (this.replayable && this.#keptBytes + size > this.#maxKept && to !== undefined) this.#forget();
      if (this.replayable || to === undefined) {
        this.#parts.push(copyOf(bytes, start, end));
        this.#keptBytes += size;
      }
    }
    if (came > 0) {
      if (to === undefined || to.queued >= HIGH_WATER_BYTES) this.#owed += came;
      else this.#source.consume(came);
    }
    if (this.#to !== undefined && (size > 0 || ended)) this.#to.data(bytes, start, end, ended);
  }

  receiveTrailers(fields: FieldList): void {
    this.ended = true;
    this.trailers = fields;
    this.#to?.trailers(fields);
  }

  /** From here on nothing is kept. */
  #forget(): void {
    this.replayable = false;
    this.#parts = [];
    this.#keptBytes = 0;
  }

  /** The exchange takes what is here, and what comes. */
  attach(to: ClientExchange): void {
    this.#to = to;
    const parts = this.#parts;
    const endsHere = this.ended && this.trailers === undefined;
    for (let i = 0; i < parts.length; i++) to.data(parts[i], 0, parts[i].length, endsHere && i === parts.length - 1);
    if (this.trailers !== undefined) to.trailers(this.trailers);
    else if (endsHere && parts.length === 0 && this.total > 0) to.data(NO_BYTES, 0, 0, true);
    if (this.#keptBytes > this.#maxKept) this.#forget();
    this.giveCredit();
  }

  detach(): void {
    this.#to = undefined;
  }

  /** What is here, in pieces. */
  eachKept(look: (part: Uint8Array) => void): void {
    for (const part of this.#parts) look(part);
  }

  /** Before there is an exchange: what is here is given to somebody who puts something in its place. Its credit stays owed. */
  takeKept(): readonly Uint8Array[] {
    const parts = this.#parts;
    this.#parts = [];
    this.total -= this.#keptBytes;
    this.#keptBytes = 0;
    return parts;
  }

  /** `part` is its own. */
  keep(part: Uint8Array): void {
    if (part.length === 0) return;
    this.#parts.push(part);
    this.#keptBytes += part.length;
    this.total += part.length;
  }

  /** The endpoint takes bytes again, or memory for them was found. */
  giveCredit(): void {
    if (this.#owed === 0 || (this.#to !== undefined && this.#to.queued >= HIGH_WATER_BYTES)) return;
    const owed = this.#owed;
    this.#owed = 0;
    this.#source.consume(owed);
  }

  /** What is here as one piece, for a filter that asked for it. */
  bytes(maxBytes: number): Uint8Array {
    const whole = new Uint8Array(Math.min(maxBytes, this.#keptBytes));
    let at = 0;
    for (const part of this.#parts) {
      const piece = part.subarray(0, whole.length - at);
      whole.set(piece, at);
      at += piece.length;
      if (at === whole.length) break;
    }
    return whole;
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** Nobody wants it any more. */
  discard(): void {
    this.#to = undefined;
    this.#forget();
    this.giveCredit();
  }
}
