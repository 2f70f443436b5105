/**
 * Path normalization before anything looks at a path, as Envoy does it with Istio's settings: policy and application must see the same path.
 * RFC 3986 section 6.2.2, and the encoded and doubled slashes that it leaves alone.
 */
import type { HttpOptionsSpec } from "../spec/mod.ts";

export type NormalizedPath =
  | { readonly kind: "path"; readonly path: string }
  /** 400: the path cannot be trusted to mean one thing. */
  | { readonly kind: "refused"; readonly details: string }
  | { readonly kind: "redirect"; readonly path: string };

type Options = Pick<HttpOptionsSpec, "normalizePath" | "mergeSlashes" | "escapedSlashes">;

const ESCAPED_SLASH = /%2f|%5c/i;
const UNRESERVED = /[A-Za-z0-9._~-]/;

/** `path`: with its query, which stays as it is. */
export function normalizePath(path: string, options: Options): NormalizedPath {
  // `*` of OPTIONS, and what is no path at all.
  if (!path.startsWith("/")) return { kind: "path", path };
  const question = path.indexOf("?");
  const hash = path.indexOf("#");
  const end = Math.min(question < 0 ? path.length : question, hash < 0 ? path.length : hash);
  let name = path.slice(0, end);
  const rest = path.slice(end);
  let redirect = false;
  if (options.normalizePath) {
    const dotless = removeDots(name);
    if (dotless === undefined) return { kind: "refused", details: "path_normalization_failed" };
    name = dotless;
  }
  if (options.mergeSlashes && name.includes("//")) name = name.replace(/\/{2,}/g, "/");
  if (options.escapedSlashes !== "keep" && ESCAPED_SLASH.test(name)) {
    if (options.escapedSlashes === "reject") return { kind: "refused", details: "path_normalization_failed" };
    redirect = options.escapedSlashes === "unescape and redirect";
    name = name.replace(/%2f/gi, "/").replace(/%5c/gi, "\\");
    // What an escaped slash hid is a path of its own.
    if (options.normalizePath) {
      const again = removeDots(name);
      if (again === undefined) return { kind: "refused", details: "path_normalization_failed" };
      name = again;
    }
    if (options.mergeSlashes) name = name.replace(/\/{2,}/g, "/");
  }
  return { kind: redirect ? "redirect" : "path", path: name + rest };
}

/** Decodes what needs no encoding, turns backslashes, and takes `.` and `..` out; undefined where it would leave the root or holds a NUL. */
function removeDots(path: string): string | undefined {
  let text = path;
  if (text.includes("%")) {
    if (/%00/.test(text)) return undefined;
    text = text.replace(/%([0-9A-Fa-f]{2})/g, (escape, hex: string) => {
      const char = String.fromCharCode(Number.parseInt(hex, 16));
      return UNRESERVED.test(char) ? char : escape.toUpperCase();
    });
  }
  if (text.includes("\\")) text = text.replaceAll("\\", "/");
  if (!text.includes("/.")) return text;
  const kept: string[] = [];
  const segments = text.split("/");
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i];
    const isLast = i === segments.length - 1;
    if (segment === ".") {
      if (isLast) kept.push("");
    } else if (segment === "..") {
      if (kept.length === 0) return undefined;
      kept.pop();
      if (isLast) kept.push("");
    } else {
      kept.push(segment);
    }
  }
  return `/${kept.join("/")}`;
}
