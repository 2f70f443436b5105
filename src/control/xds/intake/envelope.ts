/**
 * envoy.service.discovery.v3.Resource: name, version, and the Any in which the resource travels. One object for all resources of a push:
 * it only notes where things stand.
 */
import { sameText } from "./share.ts";
import { once, quote, Unreadable, type WireReader } from "./wire.ts";

export class Envelope {
  readonly #reader: WireReader;
  #nameStart = 0;
  #nameStop = 0;
  #versionStart = 0;
  #versionStop = 0;
  #typeStart = 0;
  #typeStop = 0;
  /** Where the resource stands. */
  valueStart = 0;
  valueStop = 0;

  constructor(reader: WireReader) {
    this.#reader = reader;
  }

  /** Throws Unreadable, also for another type; `name` then says what was found of it. */
  read(bytes: Uint8Array, typeUrl: string): void {
    const reader = this.#reader;
    const end = bytes.length;
    this.#nameStart =
      this.#nameStop =
      this.#versionStart =
      this.#versionStop =
        0;
    let seen = false;
    this.#typeStart =
      this.#typeStop =
      this.valueStart =
      this.valueStop =
        0;
    reader.from(bytes);
    while (reader.next(end)) {
      switch (reader.field) {
        case 1:
          this.#versionStop = reader.delimited(end);
          this.#versionStart = reader.pos;
          reader.pos = this.#versionStop;
          break;
        case 2: {
          seen = once(seen, "the resource");
          const stop = reader.delimited(end);
          while (reader.next(stop)) this.#any(stop);
          break;
        }
        case 3:
          this.#nameStop = reader.delimited(end);
          this.#nameStart = reader.pos;
          reader.pos = this.#nameStop;
          break;
        default:
          reader.skip(end);
      }
    }
    if (this.#nameStart === this.#nameStop) throw new Unreadable("a resource without a name");
    if (!seen) throw new Unreadable("the resource is empty");
    if (!sameText(typeUrl, bytes, this.#typeStart, this.#typeStop)) {
      throw new Unreadable(`its type is ${quote(reader.decode(this.#typeStart, this.#typeStop))}`);
    }
  }

  get name(): string {
    return this.#reader.decode(this.#nameStart, this.#nameStop);
  }

  get version(): string {
    return this.#reader.decode(this.#versionStart, this.#versionStop);
  }

  /** Removals go by name: a resource under another one could never be removed, or would take another's place. */
  expectName(key: string, what: string): void {
    if (sameText(key, this.#reader.bytes, this.#nameStart, this.#nameStop) || key === this.name) return;
    throw new Unreadable(`its ${what} is ${quote(key)}, which is not its name`);
  }

  /** One field of google.protobuf.Any. */
  #any(end: number): void {
    const reader = this.#reader;
    if (reader.field === 1) {
      this.#typeStop = reader.delimited(end);
      this.#typeStart = reader.pos;
      reader.pos = this.#typeStop;
    } else if (reader.field === 2) {
      this.valueStop = reader.delimited(end);
      this.valueStart = reader.pos;
      reader.pos = this.valueStop;
    } else {
      reader.skip(end);
    }
  }
}
