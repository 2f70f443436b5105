/**
 * Checks the import direction and that runtimes and FFI stay in src/platform. `deno task layers`.
 * The rules are ARCHITECTURE.md's, as data.
 */
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import process from "node:process";
import { filesBelow, ROOT } from "./support/tools.ts";

/** From the top down. A package may import those on lines below its own; packages of one line do not import each other. */
const LAYERS: readonly (readonly string[])[] = [
  ["mod.ts"],
  ["cli"],
  ["roles"],
  ["local"],
  ["ztunnel", "waypoint", "cni", "admin"],
  ["hbone"],
  ["control"],
  ["identity", "telemetry"],
  ["net"],
  ["platform"],
];

/** Pure packages that everybody may import, and what they may import themselves. */
const PURE: Readonly<Record<string, readonly string[]>> = { mesh: ["protocol"], protocol: [] };

/** Holds types only, imports nothing, and may be imported by everybody. */
const CONFIG = "src/cli/config.ts";

/** Where generated code may be used. */
const GENERATED_USERS = ["src/control/", "src/waypoint/config/", "src/gen/"];

/** Only this package may touch a runtime or call into a library. */
const RUNTIME_PACKAGE = "platform";
const RUNTIME_USE = /\b(?:Deno|Bun)\s*[.[]|globalThis\s*(?:\[|\.\s*(?:Deno|Bun)\b)|\bdlopen\b/;
const RUNTIME_MODULE = /^bun(?::|$)|^(?:node:)?ffi$|^jsr:|^https?:/;

export interface SourceFile {
  /** Relative to the project: `mod.ts`, `src/net/reactor.ts`. */
  readonly path: string;
  readonly text: string;
}

/** Every violation as one line: `path:line: what`. */
export function checkLayers(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => [...checkImports(file), ...checkRuntime(file)]);
}

interface Import {
  readonly specifier: string;
  readonly line: number;
  readonly isDynamic: boolean;
  readonly isType: boolean;
}

function checkImports(file: SourceFile): string[] {
  const problems: string[] = [];
  const report = (line: number, what: string) => problems.push(`${file.path}:${line}: ${what}`);
  for (const { specifier, line, isDynamic, isType } of readImports(file.text)) {
    if (RUNTIME_MODULE.test(specifier) && packageOf(file.path) !== RUNTIME_PACKAGE) {
      report(line, `"${specifier}" belongs to a runtime: only src/${RUNTIME_PACKAGE} may import it`);
    }
    if (!specifier.startsWith(".")) continue;
    const target = normalize(join(dirname(file.path), specifier));
    if (!target.endsWith(".ts")) continue;
    if (file.path === CONFIG) report(line, "this file imports nothing");
    else if (target === CONFIG) continue;
    else if (target.startsWith("src/gen/")) {
      if (!GENERATED_USERS.some((prefix) => file.path.startsWith(prefix))) {
        report(line, `generated code is for ${GENERATED_USERS.slice(0, 2).join(" and ")} only`);
      }
    } else if (!target.startsWith("src/") && target !== "mod.ts") {
      report(line, `"${specifier}" is outside of src`);
    } else {
      const from = packageOf(file.path);
      const to = packageOf(target);
      if (from === to) continue;
      const problem = checkDirection(from, to);
      if (problem !== undefined) report(line, problem);
      if (from === "cli" && to === "roles" && !isDynamic && !isType) {
        report(line, "roles are imported dynamically, so that a process loads only its own");
      }
    }
  }
  return problems;
}

function checkDirection(from: string, to: string): string | undefined {
  if (to in PURE) {
    if (!(from in PURE) || PURE[from].includes(to)) return undefined;
    return `${from} does not import ${to}`;
  }
  if (from in PURE) return `${from} is pure: it imports nothing of ${to}`;
  const fromRank = rankOf(from);
  const toRank = rankOf(to);
  if (fromRank === undefined || toRank === undefined) {
    return `package ${fromRank === undefined ? from : to} has no place in the layers`;
  }
  if (fromRank < toRank) return undefined;
  return fromRank === toRank ? `${from} and ${to} do not import each other` : `${from} is below ${to}`;
}

function rankOf(name: string): number | undefined {
  const rank = LAYERS.findIndex((layer) => layer.includes(name));
  return rank < 0 ? undefined : rank;
}

function packageOf(path: string): string {
  return path.startsWith("src/") ? path.split("/")[1] : path;
}

function checkRuntime(file: SourceFile): string[] {
  if (packageOf(file.path) === RUNTIME_PACKAGE) return [];
  return withoutComments(file.text).split("\n").flatMap((text, index) =>
    RUNTIME_USE.test(withoutStrings(text))
      ? [`${file.path}:${index + 1}: runtime globals and FFI are for src/${RUNTIME_PACKAGE} only`]
      : []
  );
}

/** Static and dynamic imports, and re-exports. A dynamic import of a computed name cannot be checked. */
function readImports(source: string): Import[] {
  const text = withoutComments(source);
  const found: Import[] = [];
  const statement = /^[ \t]*(?:import|export)\b(?!\s*\()([^;"'`]*?)["']([^"'\n]+)["']/gm;
  for (const match of text.matchAll(statement)) {
    const clause = match[1];
    if (clause.trim() !== "" && !/\bfrom\s*$/.test(clause)) continue;
    found.push({
      specifier: match[2],
      line: lineOf(text, match.index + match[0].length),
      isDynamic: false,
      isType: /^\s*type\b/.test(clause),
    });
  }
  for (const match of text.matchAll(/\bimport\s*\(\s*["']([^"'\n]+)["']/g)) {
    found.push({ specifier: match[1], line: lineOf(text, match.index), isDynamic: true, isType: false });
  }
  // A worker's entry is an import in all but name. The program's own entry is not: that is how it starts itself again.
  for (const match of text.matchAll(/\bnew\s+URL\s*\(\s*["'](\.[^"'\n]+\.ts)["']/g)) {
    if (match[1].endsWith("/mod.ts")) continue;
    found.push({ specifier: match[1], line: lineOf(text, match.index), isDynamic: true, isType: false });
  }
  return found;
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

/** Comments become blanks; strings stay, so that `"https://x"` is not taken for a comment. */
function withoutComments(text: string): string {
  const token = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replace(token, (match) => match.startsWith("/") ? match.replace(/[^\n]/g, " ") : match);
}

function withoutStrings(line: string): string {
  return line.replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/g, '""');
}

if (import.meta.main) {
  const paths = ["mod.ts", ...filesBelow("src", ".ts")].filter((path) => !path.startsWith("src/gen/"));
  const files = paths.map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") }));
  const problems = checkLayers(files);
  for (const problem of problems) console.error(problem);
  console.log(`layers: ${files.length} files, ${problems.length} violations`);
  process.exit(problems.length === 0 ? 0 : 1);
}
