/**
 * What stands in a message must be understood, all of it: a field that the compiler does not read, and one that is newer than this version,
 * make the message unsupported. Otherwise a condition that was added to a rule would widen it.
 */
import type { DescMessage, Message, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, isFieldSet } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";

/** Something that ambit does not do, or cannot read. The text says what, and where in the resource. */
export class Unsupported extends Error {
  override readonly name = "Unsupported";
}

/** Adds the place to an Unsupported on its way up. */
export function within<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Unsupported) throw new Unsupported(`${place}: ${error.message}`);
    throw error;
  }
}

/** Fields by their names in the .proto file: those that are read, and those that may be there without effect. */
export interface Understood<Desc extends DescMessage> {
  readonly schema: Desc;
  readonly fields: ReadonlySet<string>;
}

/** `read` and `harmless` are names as in the .proto file, separated by spaces. @throws Error for a name that is not there */
export function understand<Desc extends DescMessage>(schema: Desc, read: string, harmless = ""): Understood<Desc> {
  const names = `${read} ${harmless}`.split(/\s+/).filter((name) => name !== "");
  for (const name of names) {
    if (!schema.fields.some((field) => field.name === name)) throw new Error(`${schema.typeName} has no field ${name}`);
  }
  return { schema, fields: new Set(names) };
}

/** @throws Unsupported when anything else is set */
export function expectUnderstood<Desc extends DescMessage>(
  { schema, fields }: Understood<Desc>,
  message: MessageShape<Desc>,
): void {
  expectKnown(message);
  for (const field of schema.fields) {
    if (!fields.has(field.name) && isFieldSet(message, field)) {
      throw new Unsupported(`${schema.name}.${field.name} is not supported`);
    }
  }
}

/** @throws Unsupported when the message has fields of a newer version */
export function expectKnown(message: Message): void {
  const [unknown] = message.$unknown ?? [];
  if (unknown === undefined) return;
  const name = message.$typeName.slice(message.$typeName.lastIndexOf(".") + 1);
  throw new Unsupported(`${name} has a field ${unknown.no} that is not known to this version`);
}

/** Without `type.googleapis.com/`. */
export function typeOf(any: Any | undefined): string {
  return any === undefined ? "" : any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
}

/** @throws Unsupported for another type, and for bytes that are none of it */
export function unpack<Desc extends DescMessage>(
  any: Any | undefined,
  { schema, fields }: Understood<Desc>,
): MessageShape<Desc> {
  const type = typeOf(any);
  if (any === undefined || type !== schema.typeName) {
    throw new Unsupported(`${type === "" ? "nothing" : type} stands where ${schema.typeName} is expected`);
  }
  let message: MessageShape<Desc>;
  try {
    message = fromBinary(schema, any.value);
  } catch (error) {
    throw new Unsupported(`${schema.typeName} cannot be read: ${(error as Error).message}`);
  }
  expectUnderstood({ schema, fields }, message);
  return message;
}

/** Milliseconds; `fallback` where nothing is said. Below zero counts as zero. */
export function milliseconds(duration: Duration | undefined, fallback: number): number {
  if (duration === undefined) return fallback;
  return Math.max(0, Number(duration.seconds) * 1000 + duration.nanos / 1e6);
}

/** Of a wrapper or an optional number. */
export function orElse<T>(value: T | undefined, fallback: T): T {
  return value === undefined ? fallback : value;
}
