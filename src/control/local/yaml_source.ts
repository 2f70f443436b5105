/**
 * A YAML text, of one document or of several, as plain data that still knows where each part of it stands, for messages with
 * line and column.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments } from "yaml";

/** A place in the data: keys and indices from the root. */
export type SourcePath = readonly (string | number)[];

/** What is wrong, where it stands (both counted from 1), and what to do. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

export interface YamlDocument {
  readonly value: unknown;
  /** Where `path`, from the document's root, stands in the text; for a part that is not there, the nearest that encloses it. */
  at(path: SourcePath, message: string): Problem;
}

export type YamlSource = YamlDocument;

type Refused = { readonly ok: false; readonly problems: readonly Problem[] };

/** A mesh of a hundred thousand pods fits; in characters, over all documents. */
const MAX_CHARS = 64 * 1024 * 1024;
/** Bounds what the anchors and aliases of a document may expand to (the "billion laughs"). */
const MAX_ALIASES = 1000;

/** Reads every YAML document that is not empty, in order, or tells every syntax error in the text. */
export function readYamlDocuments(
  text: string,
): { readonly ok: true; readonly documents: readonly YamlDocument[] } | Refused {
  if (text.length > MAX_CHARS) {
    return { ok: false, problems: [{ line: 1, column: 1, message: `the file has more than ${MAX_CHARS} characters` }] };
  }
  const lineCounter = new LineCounter();
  const position = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const parsed = parseAllDocuments(text, { lineCounter, prettyErrors: false, logLevel: "error" });
  const problems = parsed.flatMap((document) =>
    document.errors.map((error) => ({ ...position(error.pos[0]), message: error.message }))
  );
  const documents: YamlDocument[] = [];
  for (const document of problems.length === 0 ? parsed : []) {
    const start = position(document.contents?.range[0] ?? 0);
    try {
      const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
      if (value === null || value === undefined) continue;
      documents.push({ value, at: (path, message) => ({ ...position(offsetOf(document, path)), message }) });
    } catch (error) {
      problems.push({ ...start, message: (error as Error).message });
    }
  }
  return problems.length === 0 ? { ok: true, documents } : { ok: false, problems };
}

/** Reads a text of one YAML document. */
export function readYaml(text: string): { readonly ok: true; readonly source: YamlSource } | Refused {
  const read = readYamlDocuments(text);
  if (!read.ok) return read;
  const [first, second] = read.documents;
  if (second !== undefined) return { ok: false, problems: [second.at([], "the file has more than one document")] };
  return { ok: true, source: first ?? { value: null, at: (_, message) => ({ line: 1, column: 1, message }) } };
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
