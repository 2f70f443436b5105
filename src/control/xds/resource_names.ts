/**
 * The names of a resource, read from its encoded `envoy.service.discovery.v3.Resource`: asked for by an address, istiod answers with
 * the workload's uid as the name and the address as an alias.
 */
import { BYTES, Unreadable, WireReader } from "./intake/wire.ts";

const NAME = 3;
const ALIASES = 4;
const reader = new WireReader();

/** Name first, then aliases. Nothing when the bytes are no Resource: who applies the resource says what is wrong with it. */
export function resourceNames(resource: Uint8Array): string[] {
  const names: string[] = [];
  try {
    reader.from(resource);
    while (reader.next(resource.length)) {
      const named = reader.wireType === BYTES && (reader.field === NAME || reader.field === ALIASES);
      if (named) names.push(reader.text(resource.length));
      else reader.skip(resource.length);
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
  } finally {
    reader.release();
  }
  return names;
}
