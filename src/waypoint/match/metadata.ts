/** Conditions on dynamic metadata, such as the claims of a JWT. */
import type { MetadataMatch, MetadataValueMatch } from "../spec/mod.ts";
import { compileText } from "./text.ts";

/** By filter name, as `RequestContext.metadata`. */
export type Metadata = ReadonlyMap<string, Readonly<Record<string, unknown>>>;
export type MetadataPredicate = (metadata: Metadata) => boolean;

export function compileMetadata({ namespace, path, value, invert }: MetadataMatch): MetadataPredicate {
  const test = compileValue(value);
  return (metadata) => test(valueAt(metadata, namespace, path)) !== invert;
}

/** Undefined when it is not there. Keys are own keys only: a claim called `constructor` is a claim. */
export function valueAt(metadata: Metadata, namespace: string, path: readonly string[]): unknown {
  let value: unknown = metadata.get(namespace);
  for (const key of path) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, key)) {
      return undefined;
    }
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

function compileValue(match: MetadataValueMatch): (value: unknown) => boolean {
  switch (match.kind) {
    case "text": {
      const test = compileText(match.match);
      return (value) => typeof value === "string" && test(value);
    }
    case "bool":
      return (value) => value === match.value;
    case "null":
      return (value) => value === null;
    case "number":
      return (value) =>
        typeof value === "number" &&
        (match.from === match.below ? value === match.from : value >= match.from && value < match.below);
    case "present":
      return (value) => (value !== undefined) === match.present;
    case "any": {
      const test = compileValue(match.of);
      return (value) => Array.isArray(value) && value.some(test);
    }
    case "or": {
      const tests = match.of.map(compileValue);
      return (value) => tests.some((test) => test(value));
    }
  }
}
