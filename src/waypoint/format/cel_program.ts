/** One CEL expression over Envoy's attributes. Loaded on demand (cel_engine.ts): nothing else imports this. */
import { celEnv, type CelInput, isCelError, isCelList, isCelMap, parse, plan } from "@bufbuild/cel";
import { isMessage } from "@bufbuild/protobuf";
import { DurationSchema, timestampDate, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { RE2JS } from "re2js";
import type { WorkloadSpec } from "../spec/mod.ts";
import { ATTRIBUTES, namesOf } from "./cel_attributes.ts";
import type { FormatFacts } from "./facts.ts";

export interface CelAttributes {
  /** `node.id`, `node.metadata` and the like. */
  readonly node: Readonly<Record<string, unknown>>;
  readonly peers: ((ip: string) => WorkloadSpec | undefined) | undefined;
}

/** Undefined for an error, as for an attribute that is not there. */
export type CelProgram = (facts: FormatFacts) => unknown;

const environment = celEnv({
  re2: {
    compile(pattern) {
      const regex = RE2JS.compile(pattern);
      return { test: (text) => regex.matcher(text).find() };
    },
  },
});

/** @throws Error for what is no expression */
export function compileProgram(text: string, context: CelAttributes): CelProgram {
  const expression = parse(text);
  const run = plan(environment, expression);
  // Only what is named is gathered.
  const names = namesOf(text);
  return (facts) => {
    const bindings: Record<string, CelInput> = {};
    for (const name of names) {
      const value = ATTRIBUTES[name](facts, context);
      if (value !== undefined) bindings[name] = value as CelInput;
    }
    let result: unknown;
    try {
      result = run(bindings);
    } catch {
      // Overflow and the like: an error value in Envoy.
      return undefined;
    }
    return isCelError(result) ? undefined : plainValue(result);
  };
}

/** As JSON knows it. */
function plainValue(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "object" || value === null) return value ?? undefined;
  if (value instanceof Uint8Array) return Array.from(value, (byte) => String.fromCharCode(byte)).join("");
  if (isCelList(value)) return [...value].map(plainValue);
  if (isCelMap(value)) {
    return Object.fromEntries([...value.entries()].map(([key, item]) => [String(key), plainValue(item)]));
  }
  const message = "message" in value ? value.message : value;
  if (isMessage(message, TimestampSchema)) return timestampDate(message).toISOString();
  if (isMessage(message, DurationSchema)) return `${Number(message.seconds) + message.nanos / 1e9}s`;
  if ("value" in value) return plainValue(value.value);
  return undefined;
}
