/**
 * A YAML text as plain data that still knows where each part of it stands, for messages with line and column.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";

/** A place in the data: keys and indices from the root. */
export type SourcePath = readonly (string | number)[];

/** What is wrong, where it stands (both counted from 1), and what to do. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

export interface YamlSource {
  readonly value: unknown;
  /** Where `path` stands; for a part that is not there, the nearest that encloses it. */
  at(path: SourcePath, message: string): Problem;
}

/** A mesh of a hundred thousand pods fits; in characters. */
const MAX_CHARS = 64 * 1024 * 1024;
/** Bounds what anchors and aliases may expand to (the "billion laughs"). */
const MAX_ALIASES = 1000;

/** Reads one YAML document, or tells every syntax error in it. */
export function readYaml(
  text: string,
): { readonly ok: true; readonly source: YamlSource } | { readonly ok: false; readonly problems: readonly Problem[] } {
  if (text.length > MAX_CHARS) {
    return { ok: false, problems: [{ line: 1, column: 1, message: `the file has more than ${MAX_CHARS} characters` }] };
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, logLevel: "error" });
  const position = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => ({ ...position(error.pos[0]), message: error.message }));
    return { ok: false, problems };
  }
  try {
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    const at = (path: SourcePath, message: string) => ({ ...position(offsetOf(document, path)), message });
    return { ok: true, source: { value, at } };
  } catch (error) {
    return { ok: false, problems: [{ line: 1, column: 1, message: (error as Error).message }] };
  }
}

function offsetOf(document: Document.Parsed, path: SourcePath): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range[0] ?? 0;
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => String(isScalar(key) ? key.value : key) === String(step));
      if (pair === undefined) return offset;
      offset = (isScalar(pair.key) ? pair.key.range?.[0] : undefined) ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === "number" && step < node.items.length) {
      node = node.items[step];
      offset = rangeOf(node) ?? offset;
    } else return offset;
  }
  return offset;
}

function rangeOf(node: unknown): number | undefined {
  return isMap(node) || isSeq(node) || isScalar(node) || isAlias(node) ? node.range?.[0] : undefined;
}
