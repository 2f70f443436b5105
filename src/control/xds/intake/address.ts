/** istio.workload.Address from bytes: a workload or a service. */
import type { Service, Workload } from "../../../mesh/types.ts";
import { PartReader } from "./parts.ts";
import { readService } from "./service.ts";
import { once, Unreadable, type WireReader } from "./wire.ts";
import { readWorkload } from "./workload.ts";

export type AddressKind = "workload" | "service";

/** Reads Addresses where its reader stands; equal parts of what one decoder reads are one object. Everything throws Unreadable. */
export class AddressDecoder {
  readonly #parts = new PartReader();

  get reader(): WireReader {
    return this.#parts.reader;
  }

  /** Which of the two an Address holds, without reading it; undefined when it holds neither. */
  kind(start: number, stop: number): AddressKind | undefined {
    const { reader } = this.#parts;
    let kind: AddressKind | undefined;
    reader.pos = start;
    while (reader.next(stop)) {
      if (reader.field === 1) kind = "workload";
      else if (reader.field === 2) kind = "service";
      reader.skip(stop);
    }
    return kind;
  }

  workload(start: number, stop: number): Workload {
    return readWorkload(this.#parts, this.#enter(start, stop, 1, "workload"));
  }

  service(start: number, stop: number): Service {
    return readService(this.#parts, this.#enter(start, stop, 2, "service"));
  }

  /** Goes into the Address's only message; returns where that ends. */
  #enter(start: number, end: number, field: number, what: string): number {
    const { reader } = this.#parts;
    let innerStart = -1;
    let innerStop = -1;
    reader.pos = start;
    while (reader.next(end)) {
      if (reader.field === field) {
        once(innerStart !== -1, what);
        innerStop = reader.delimited(end);
        innerStart = reader.pos;
        reader.pos = innerStop;
      } else if (reader.field === 1 || reader.field === 2) {
        throw new Unreadable("malformed: an address that is both a workload and a service");
      } else {
        reader.skip(end);
      }
    }
    if (innerStart === -1) throw new Unreadable("it is neither a workload nor a service");
    reader.pos = innerStart;
    return innerStop;
  }
}
