/**
 * CEL in logs, metrics and spans. The evaluator is loaded by the first expression alone: most waypoints have none, and it is large. Until it is
 * there, and for an expression that cannot be read, every answer is "nothing to say", as for an attribute that is not there (Envoy: an error).
 */
import type { EvaluateValue, FormatEnvironment } from "./environment.ts";
import type { FormatFacts } from "./facts.ts";
import type { CelAttributes, CelProgram } from "./cel_program.ts";

type CompileProgram = typeof import("./cel_program.ts").compileProgram;

/** What expressions read of this process. */
export type CelContext = Pick<CelAttributes, "node" | "peers">;

export interface CelEngineOptions {
  readonly context: CelContext;
  /** An expression that is none: a person is told once. */
  readonly invalid: (expression: string, reason: string) => void;
  /** The evaluator must be loaded: `load` is to be awaited soon. In a worker that is while its reactor rests. */
  readonly wanted: () => void;
}

interface Expression {
  readonly text: string;
  program: CelProgram | undefined;
}

export class CelEngine {
  readonly #options: CelEngineOptions;
  readonly #expressions = new Map<string, Expression>();
  #compile: CompileProgram | undefined;
  #asked = false;

  constructor(options: CelEngineOptions) {
    this.#options = options;
  }

  /** Never rejects: without the evaluator there is a warning, and nothing to say. */
  async load(): Promise<void> {
    if (this.#compile !== undefined) return;
    try {
      const { compileProgram } = await import("./cel_program.ts");
      this.#compile = compileProgram;
    } catch (error) {
      return this.#options.invalid("*", `the evaluator cannot be loaded: ${(error as Error).message}`);
    }
    for (const expression of this.#expressions.values()) this.#plan(expression);
  }

  get loaded(): boolean {
    return this.#compile !== undefined;
  }

  /** The same text is one expression, however often it is configured. */
  value(text: string): EvaluateValue {
    let expression = this.#expressions.get(text);
    if (expression === undefined) {
      expression = { text, program: undefined };
      this.#expressions.set(text, expression);
      if (this.#compile !== undefined) this.#plan(expression);
      else if (!this.#asked) {
        this.#asked = true;
        this.#options.wanted();
      }
    }
    const found = expression;
    return (facts) => found.program?.(facts);
  }

  /** As text; what is no scalar as JSON. */
  text(text: string): (facts: FormatFacts) => string | undefined {
    const evaluate = this.value(text);
    return (facts) => {
      const value = evaluate(facts);
      if (value === undefined || typeof value === "string") return value;
      return typeof value === "object" ? JSON.stringify(value) : String(value);
    };
  }

  /** Of a filter: anything but true is false. */
  test(text: string): (facts: FormatFacts) => boolean {
    const evaluate = this.value(text);
    return (facts) => evaluate(facts) === true;
  }

  /** Expressions that no configuration names any more. */
  keep(texts: ReadonlySet<string>): void {
    for (const text of this.#expressions.keys()) if (!texts.has(text)) this.#expressions.delete(text);
  }

  /** As formats take it. */
  get formats(): Pick<FormatEnvironment, "cel" | "celValue"> {
    return { cel: (text) => this.text(text), celValue: (text) => this.value(text) };
  }

  #plan(expression: Expression): void {
    try {
      expression.program = this.#compile?.(expression.text, this.#options.context);
    } catch (error) {
      this.#options.invalid(expression.text, (error as Error).message);
    }
  }
}
