/** One Address from bytes of its own. */
import { AddressDecoder, type AddressKind } from "../../../../src/control/xds/intake/address.ts";
import type { Service, Workload } from "../../../../src/mesh/mod.ts";

export function decodeWorkload(bytes: Uint8Array, decoder = new AddressDecoder()): Workload {
  decoder.reader.from(bytes);
  return decoder.workload(0, bytes.length);
}

export function decodeService(bytes: Uint8Array, decoder = new AddressDecoder()): Service {
  decoder.reader.from(bytes);
  return decoder.service(0, bytes.length);
}

export function kindOf(bytes: Uint8Array, decoder = new AddressDecoder()): AddressKind | undefined {
  decoder.reader.from(bytes);
  return decoder.kind(0, bytes.length);
}
