/**
 * Parsers of single option values. Each takes text and gives the value or throws a plain Error
 * whose message completes "…: must be …"; the caller adds the flag or variable and the text.
 *
 * Booleans are only `true` and `false`, durations are Go's (`1h30m`, `300ms`), as Istio's are.
 */

/** Milliseconds per unit of a Go duration. */
const DURATION_UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "µs": 1e-3,
  "μs": 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Timers take 32-bit milliseconds on every runtime; longer ones (24.8 days) fire at once. */
const MAX_DURATION_MS = 2 ** 31 - 1;

/** Longest text read as a duration; a real one has a few characters. */
const MAX_DURATION_CHARS = 64;

export function parseBoolean(text: string): boolean {
  if (text === "true") return true;
  if (text === "false") return false;
  throw new Error("must be true or false");
}

/** Decimal digits only: no sign, exponent, blank or hexadecimal. */
export function parseInteger(text: string, min: number, max: number): number {
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) throw new Error(`must be a whole number from ${min} to ${max}`);
  return value;
}

/**
 * A Go duration in milliseconds: one or more decimal numbers each with a unit, or `0`.
 * Fractions of a millisecond are rounded. Negative durations are refused: no option has a use for one.
 */
export function parseDuration(text: string): number {
  const problem = "must be a duration such as 300ms, 10s or 5m";
  if (text === "0") return 0;
  if (text.length === 0 || text.length > MAX_DURATION_CHARS) throw new Error(problem);
  const part = /([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)/y;
  let total = 0;
  while (part.lastIndex < text.length) {
    const match = part.exec(text);
    if (match === null) throw new Error(problem);
    total += Number(match[1]) * DURATION_UNITS[match[2]];
  }
  const ms = Math.round(total);
  if (ms > MAX_DURATION_MS) throw new Error("must be a duration below 596h");
  return ms;
}

/** A duration in the shortest Go-like text, for help. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0";
  let rest = ms;
  let text = "";
  for (const [unit, size] of [["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]] as const) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}

/** `N` workers, `P%` of the CPUs (rounded up), or `0` for all CPUs. */
export type WorkerCount =
  | { readonly kind: "count"; readonly count: number }
  | { readonly kind: "percent"; readonly percent: number }
  | { readonly kind: "all" };

/** Most workers anybody runs; a larger number is a typing error that would exhaust memory. */
const MAX_WORKERS = 1024;

export function parseWorkerCount(text: string): WorkerCount {
  const match = /^([0-9]{1,4})(%?)$/.exec(text);
  const value = match === null ? NaN : Number(match[1]);
  if (match !== null && match[2] === "%" && value >= 1 && value <= 100) return { kind: "percent", percent: value };
  if (match !== null && match[2] === "" && value === 0) return { kind: "all" };
  if (match !== null && match[2] === "" && value <= MAX_WORKERS) return { kind: "count", count: value };
  throw new Error(`must be a number from 0 (all CPUs) to ${MAX_WORKERS}, or a percentage from 1% to 100%`);
}

/** A Kubernetes CPU quantity (`2`, `0.5`, `200m`) in whole CPUs, rounded up. */
export function parseCpuQuantity(text: string): number {
  const match = /^([0-9]{1,9})(?:\.([0-9]{1,9}))?(m?)$/.exec(text);
  if (match === null) throw new Error("must be a CPU quantity such as 2 or 200m");
  const value = Number(`${match[1]}.${match[2] ?? "0"}`);
  return Math.ceil(match[3] === "m" ? value / 1000 : value);
}

/** `namespace/name/serviceaccount`, each part a Kubernetes name. */
export function parseWorkloadInfo(text: string): { namespace: string; name: string; serviceAccount: string } {
  const [namespace, name, serviceAccount, extra] = text.split("/", 4);
  if (!namespace || !name || !serviceAccount || extra !== undefined) {
    throw new Error("must be namespace/name/serviceaccount");
  }
  return { namespace, name, serviceAccount };
}

/**
 * The address of a gRPC server as `https://host[:port]`; a text without scheme gets `https://`.
 * The empty text gives undefined: it switches the client off.
 */
export function parseServerAddress(text: string): string | undefined {
  if (text === "") return undefined;
  const problem = "must be host:port or https://host:port";
  const withScheme = text.includes("://") ? text : `https://${text}`;
  let url: URL;
  try {
    url = new URL(withScheme);
  } catch {
    throw new Error(problem);
  }
  if (url.protocol !== "https:" || url.hostname === "" || url.username !== "" || url.password !== "") {
    throw new Error(problem);
  }
  if (url.search !== "" || url.hash !== "" || (url.pathname !== "/" && url.pathname !== "")) throw new Error(problem);
  return withScheme.replace(/\/$/, "");
}

/** A header field name of RFC 9110, lower-cased as gRPC metadata must be. */
export function parseHeaderName(text: string): string {
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/.test(text)) throw new Error("must be an HTTP header name");
  return text.toLowerCase();
}

/** `localhost:N` or `ip:port` (an IPv6 address in brackets). */
export function parseSocketAddress(text: string): string {
  const match = /^(localhost|[0-9.]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})$/.exec(text);
  const port = match === null ? 0 : Number(match[2]);
  if (port < 1 || port > 65_535) throw new Error("must be localhost:port or ip:port");
  return text;
}
