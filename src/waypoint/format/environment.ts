/** What formats are compiled with: facts of this process, and ways to those that are neither the request's nor the connection's. */
import type { RequestContext } from "../engine/request_context.ts";
import type { WorkloadSpec } from "../spec/mod.ts";
import type { FormatFacts } from "./facts.ts";

/** Undefined or empty: nothing to say. */
export type Evaluate = (facts: FormatFacts) => string | undefined;
/** The same with its type kept, for JSON; undefined: nothing to say. */
export type EvaluateValue = (facts: FormatFacts) => unknown;

export type Maker = (argument: string, environment: FormatEnvironment) => Evaluate;

export interface FormatEnvironment {
  readonly hostname: string;
  readonly env: (name: string) => string | undefined;
  /** Compiles a CEL expression; undefined where it cannot be. */
  readonly cel: (expression: string) => Evaluate | undefined;
  readonly celValue?: (expression: string) => EvaluateValue | undefined;
  /** Who an address belongs to; without it nobody is known upstream. */
  readonly peers?: (ip: string) => WorkloadSpec | undefined;
  /** Hexadecimal id of the trace that a request is part of. */
  readonly traceId?: (request: RequestContext) => string | undefined;
}
