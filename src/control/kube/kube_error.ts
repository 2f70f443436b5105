/**
 * Why a call to the API server failed: what was asked, where, what came back, and what to do about it. A token never comes into a text.
 */
import type { Status } from "./types.ts";

export class KubeError extends Error {
  override readonly name = "KubeError";
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** The API server's word (`NotFound`, `Forbidden`, `Expired`); without an answer ours: `Network`, `Timeout`, `Certificate`, `Token`, `Protocol`. */
  readonly reason: string;
  /** How long the API server wants to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, status: number, reason: string, settings: KubeErrorSettings = {}) {
    super(message, settings.cause === undefined ? undefined : { cause: settings.cause });
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = settings.retryAfterMs;
  }
}

export interface KubeErrorSettings {
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** What was asked, for the texts. */
export interface AskedCall {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** `https://10.0.0.1:443`. */
  readonly server: string;
}

/** Parts of an answer that says no. */
export interface Refusal {
  readonly status: number;
  readonly body: string;
  readonly retryAfter: string | undefined;
  /** What is known of the token that was sent; undefined when none was. */
  readonly token: string | undefined;
}

/** Of a body that is no Status: enough to recognize whose error page it is. */
const SHOWN_CHARACTERS = 200;
/** Nobody is left alone for longer because of a header. */
const MAX_RETRY_AFTER_MS = 60_000;

export function refusalError(call: AskedCall, refusal: Refusal): KubeError {
  const { status, body, token } = refusal;
  const parsed = parseStatus(body);
  const seconds = Number(refusal.retryAfter ?? parsed?.details?.retryAfterSeconds ?? NaN);
  const retryAfterMs = seconds >= 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : undefined;
  const said = oneLine(parsed?.message ?? body);
  const text = `${describe(call)}: ${explain(call, status, said, token)}`;
  return new KubeError(text, status, parsed?.reason || REASONS[status] || `HTTP ${status}`, { retryAfterMs });
}

const REASONS: Readonly<Record<number, string>> = {
  400: "BadRequest",
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  409: "Conflict",
  410: "Expired",
  429: "TooManyRequests",
  500: "InternalError",
  503: "ServiceUnavailable",
  504: "Timeout",
};

function explain(call: AskedCall, status: number, said: string, token: string | undefined): string {
  const answer = said === "" ? `the API server answered ${status}` : said;
  switch (status) {
    case 401:
      return token === undefined
        ? "the API server wants to know who asks (401), and there was no token to send"
        : `the API server does not accept the token (401 ${
          said || "Unauthorized"
        }): ${token}; a token that is rejected before it ` +
          "expires belongs to a pod or service account that is gone, or to another cluster";
    case 403: {
      const { verb, resource } = askedFor(call);
      return `not allowed (403): ${answer}; the role bound to this service account must grant "${verb}" on "${resource}"`;
    }
    case 429:
      return `the API server is busy (429): ${answer}`;
    default:
      return `${answer} (${status})`;
  }
}

/** Why there was no answer. */
export function networkError(call: AskedCall, cause: unknown): KubeError {
  const code = String((cause as { code?: unknown } | undefined)?.code ?? "");
  const text = cause instanceof Error ? cause.message : String(cause);
  const kind = CERTIFICATE_CODE.test(code) ? "Certificate" : "Network";
  return new KubeError(`${describe(call)}: ${hintFor(code, text, call.server)}`, 0, kind, { cause });
}

const CERTIFICATE_CODE = /CERT|_LEAF_|ISSUER|CRL|ALTNAME/;

function hintFor(code: string, text: string, server: string): string {
  switch (code) {
    case "ECONNREFUSED":
      return "connection refused: is the API server running, and is this its address?";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `its name does not resolve (${text})`;
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `there is no route to it (${code}): check the node's network and kube-proxy`;
    case "ETIMEDOUT":
      return "timed out: a NetworkPolicy or firewall may drop packets to it";
    case "ECONNRESET":
    case "EPIPE":
      return `the connection was cut before the answer was complete (${code})`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `its certificate is for another name than ${server} (${text})`;
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return `its certificate is not valid now (${text}): check the clocks`;
    default:
      if (CERTIFICATE_CODE.test(code)) {
        return `its certificate is not signed by the CA we were given (${text}): check KUBE_CA_FILE or the service account's ca.crt`;
      }
      return code === "" ? text : `${text} (${code})`;
  }
}

/** An answer that no API server gives. */
export function protocolError(call: AskedCall, what: string): KubeError {
  return new KubeError(`${describe(call)}: ${what}`, 0, "Protocol");
}

export function timeoutError(call: AskedCall, timeoutMs: number, doing: string): KubeError {
  const text = `${describe(call)}: ${doing} within ${
    timeoutMs / 1000
  } s; the API server is overloaded, or packets to it are dropped`;
  return new KubeError(text, 0, "Timeout");
}

/** The Status that an API server sends as an error, or undefined. */
export function parseStatus(body: string): Status | undefined {
  try {
    return asStatus(JSON.parse(body));
  } catch {
    return undefined;
  }
}

/** Only fields of the right type. */
export function asStatus(value: unknown): Status | undefined {
  if (typeof value !== "object" || value === null || (value as Status).kind !== "Status") return undefined;
  const { message, reason, code, details } = value as { [K in keyof Status]: unknown };
  const seconds = (details as { retryAfterSeconds?: unknown } | null | undefined)?.retryAfterSeconds;
  return {
    kind: "Status",
    message: typeof message === "string" ? message : undefined,
    reason: typeof reason === "string" ? reason : undefined,
    code: typeof code === "number" ? code : undefined,
    details: typeof seconds === "number" ? { retryAfterSeconds: seconds } : undefined,
  };
}

function describe({ method, path, server }: AskedCall): string {
  return `${method} ${path} at ${server}`;
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > SHOWN_CHARACTERS * 2 ? `${line.slice(0, SHOWN_CHARACTERS * 2)}…` : line;
}

/** In RBAC's words. */
function askedFor({ method, path }: AskedCall): { readonly verb: string; readonly resource: string } {
  const [pathname, query = ""] = path.split("?", 2);
  const match =
    /^\/(?:api\/[^/]+|apis\/[^/]+\/[^/]+)\/(?:namespaces\/[^/]+\/(?=[^/]))?([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(
      pathname,
    );
  if (match === null) return { verb: method.toLowerCase(), resource: pathname };
  const [, resource, name, subresource] = match;
  const verb = method === "PATCH"
    ? "patch"
    : method === "POST"
    ? "create"
    : name !== undefined
    ? "get"
    : /(?:^|&)watch=(?:1|true)(?:&|$)/.test(query)
    ? "watch"
    : "list";
  return { verb, resource: subresource === undefined ? resource : `${resource}/${subresource}` };
}
