/** Header changes of routes as functions: what is removed, then what is added, in the order of the configuration. */
import { has, remove, set } from "../http/fields.ts";
import type { FieldList } from "../http/exchange.ts";
import { compileFormat } from "../format/compile.ts";
import type { FormatEnvironment } from "../format/commands.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { HeaderAddSpec, HeaderChangeSpec } from "../spec/mod.ts";

export interface HeaderChange {
  request(headers: FieldList, facts: () => FormatFacts): void;
  response(headers: FieldList, facts: () => FormatFacts): void;
}

type Apply = (headers: FieldList, facts: () => FormatFacts) => void;

const NOTHING: Apply = () => {};

/** Names that are no header and may not be changed as one. */
const NOT_A_HEADER = /^:|^host$/;

export function compileHeaderChange(spec: HeaderChangeSpec, environment: FormatEnvironment): HeaderChange {
  return {
    request: compileHalf(spec.requestRemove, spec.requestAdd, environment),
    response: compileHalf(spec.responseRemove, spec.responseAdd, environment),
  };
}

function compileHalf(
  removed: readonly string[],
  added: readonly HeaderAddSpec[],
  environment: FormatEnvironment,
): Apply {
  if (removed.length === 0 && added.length === 0) return NOTHING;
  const additions = added.filter(({ name }) => !NOT_A_HEADER.test(name)).map((spec) => ({
    ...spec,
    evaluate: compileFormat(spec.value, environment, ""),
  }));
  return (headers, facts) => {
    for (const name of removed) if (!NOT_A_HEADER.test(name)) remove(headers, name);
    for (const { name, evaluate, action, keepEmpty } of additions) {
      const value = evaluate(facts());
      if (value === "" && !keepEmpty) continue;
      switch (action) {
        case "append":
          headers.push(name, value);
          break;
        case "overwrite":
          set(headers, name, value);
          break;
        case "add if absent":
          if (!has(headers, name)) headers.push(name, value);
          break;
        case "overwrite if exists":
          if (has(headers, name)) set(headers, name, value);
          break;
      }
    }
  };
}
