/** Matchers as data: what an Envoy matcher means, in terms that a worker compiles into closures once. */

/** One value. `regex` is RE2, anchored at both ends. */
export type TextMatch =
  | { readonly kind: "exact" | "prefix" | "suffix" | "contains"; readonly text: string; readonly ignoreCase: boolean }
  | { readonly kind: "regex"; readonly pattern: string };

export interface HeaderMatch {
  /** Lower case; pseudo-headers with their colon. */
  readonly name: string;
  /** Undefined: the header is there. Several of one name are joined by commas first. */
  readonly value: TextMatch | undefined;
  readonly invert: boolean;
  /** A header that is absent matches as the empty text. */
  readonly missingIsEmpty: boolean;
}

export interface QueryMatch {
  readonly name: string;
  /** Undefined: the parameter is there. The first of a name counts. */
  readonly value: TextMatch | undefined;
}

/** Of the path without its query, after normalization. */
export type PathMatch =
  | { readonly kind: "exact" | "prefix"; readonly path: string; readonly ignoreCase: boolean }
  /** The path itself, or below it behind a slash. Never ends with a slash. */
  | { readonly kind: "separated"; readonly path: string; readonly ignoreCase: boolean }
  | { readonly kind: "regex"; readonly pattern: string }
  /** Envoy's URI template: `*` one segment, `**` any number, `{*}` and `{**}` likewise. */
  | { readonly kind: "template"; readonly template: string };

/** A value in dynamic metadata: `namespace` of a filter, then keys. Claims of a JWT are at `envoy.filters.http.jwt_authn`. */
export interface MetadataMatch {
  readonly namespace: string;
  readonly path: readonly string[];
  readonly value: MetadataValueMatch;
  readonly invert: boolean;
}

export type MetadataValueMatch =
  | { readonly kind: "text"; readonly match: TextMatch }
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "number"; readonly from: number; readonly below: number }
  | { readonly kind: "present"; readonly present: boolean }
  | { readonly kind: "null" }
  /** Any element of a list. */
  | { readonly kind: "any"; readonly of: MetadataValueMatch }
  | { readonly kind: "or"; readonly of: readonly MetadataValueMatch[] };

/** A range of addresses, `10.0.0.0/8`; host bits are zero. */
export type Cidr = string;

/** Of a million. */
export type PerMillion = number;

/** Envoy's substitution format: literal text and commands. Parsed on the main thread; a worker makes a function of it. */
export type FormatPart =
  | { readonly text: string }
  | {
    /** Such as `REQ`, `FILTER_STATE`, `START_TIME`. */
    readonly command: string;
    /** Between the parentheses, undivided. */
    readonly argument: string;
    /** Longest result in bytes; undefined: all. */
    readonly maxLength: number | undefined;
  };
export type Format = readonly FormatPart[];
