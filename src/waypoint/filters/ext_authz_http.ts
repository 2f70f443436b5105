/**
 * Authorization over plain HTTP: the service is asked with the request's own method, path and host, and its status decides. 200 allows, 5xx is a failure
 * of the service, anything else is the answer for the client.
 */
import type { RequestContext } from "../engine/request_context.ts";
import type { FieldList, RequestHead } from "../http/exchange.ts";
import { set } from "../http/fields.ts";
import { compileText } from "../match/text.ts";
import type { ExtAuthzSpec, TextMatch } from "../spec/mod.ts";
import type { HeaderAction, HeaderEdit } from "./check_message.ts";
import { type CheckBody, PARTIAL_BODY } from "./ext_authz_grpc.ts";
import { InvalidReply, safeEdits, safeStatus, type Verdict } from "./ext_authz_verdict.ts";
import type { CallReply } from "./upstream_call.ts";

export type HttpService = Extract<ExtAuthzSpec["service"], { readonly kind: "http" }>;

/** Envoy's: names of request headers that the service wants taken out, separated by commas. */
const TO_REMOVE = "x-envoy-auth-headers-to-remove";
/** Told to a client in any case, when it is told some headers and not all. */
const ALWAYS_TO_CLIENT = new Set(["www-authenticate", "location"]);
/** Not the request's any more when it goes to another server. */
const NOT_TOLD = new Set(["content-length", "expect", "host", PARTIAL_BODY]);

type NamePredicate = (name: string) => boolean;

export interface CompiledHttpService {
  head(context: RequestContext, body: CheckBody | undefined): RequestHead;
  reply(reply: CallReply): Verdict;
}

/** @throws Error for what cannot be honoured, which refuses the chain */
export function compileHttpService(spec: HttpService): CompiledHttpService {
  const told = anyOf(spec.allowedHeaders);
  const toUpstream = anyOf(spec.toUpstream);
  const toUpstreamAppend = anyOf(spec.toUpstreamAppend);
  const toClientOnSuccess = anyOf(spec.toClientOnSuccess);
  const listed = anyOf(spec.toClient);
  // Without a list, all are told.
  const toClient: NamePredicate = spec.toClient.length === 0
    ? () => true
    : (name) => ALWAYS_TO_CLIENT.has(name) || listed(name);
  const added = spec.addToCheck.map(({ name, value }) => ({ name, value: literal(value) }));

  return {
    head({ head }, body): RequestHead {
      const headers: FieldList = [];
      for (let i = 0; i < head.headers.length; i += 2) {
        const name = head.headers[i];
        if (NOT_TOLD.has(name) || !(name === "authorization" || told(name))) continue;
        headers.push(name, head.headers[i + 1]);
      }
      if (body !== undefined) headers.push(PARTIAL_BODY, String(body.isPartial));
      for (const { name, value } of added) set(headers, name, value);
      const size = body?.bytes.length ?? 0;
      headers.push("content-length", String(size));
      return {
        method: head.method,
        path: spec.pathPrefix + head.path,
        authority: head.authority,
        scheme: head.scheme,
        version: head.version === "1.0" ? "1.1" : head.version,
        headers,
        upgrade: "",
        contentLength: size,
        expectsContinue: false,
        wireBytes: 0,
      };
    },

    reply({ status, headers, body }): Verdict {
      if (status >= 500) return { kind: "error", reason: `it answered HTTP ${status}` };
      try {
        if (status !== 200) {
          return {
            kind: "denied",
            status: safeStatus(status),
            headers: safeEdits(edits(headers, toClient, "append"), "append"),
            body,
            metadata: undefined,
          };
        }
        return {
          kind: "allowed",
          requestHeaders: safeEdits(
            [...edits(headers, toUpstream, "overwrite"), ...edits(headers, toUpstreamAppend, "append")],
            "overwrite",
          ),
          removeRequestHeaders: listOf(headers),
          responseHeaders: safeEdits(edits(headers, toClientOnSuccess, "append"), "append"),
          setQuery: [],
          removeQuery: [],
          metadata: undefined,
        };
      } catch (error) {
        if (error instanceof InvalidReply) return { kind: "invalid", reason: error.message };
        throw error;
      }
    },
  };
}

function anyOf(matches: readonly TextMatch[]): NamePredicate {
  const tests = matches.map(compileText);
  return (name) => tests.some((test) => test(name));
}

function edits(headers: FieldList, wanted: NamePredicate, action: HeaderAction): HeaderEdit[] {
  const found: HeaderEdit[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i];
    // Of the service's connection, or an instruction to us.
    if (name === "host" || name === TO_REMOVE || !wanted(name)) continue;
    found.push({ name, value: headers[i + 1], action });
  }
  return found;
}

function listOf(headers: FieldList): string[] {
  const names: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== TO_REMOVE) continue;
    for (const name of headers[i + 1].split(",")) if (name.trim() !== "") names.push(name.trim());
  }
  return names;
}

/** Envoy reads these as format strings. @throws Error for one that is */
function literal(value: string): string {
  const text = value.replaceAll("%%", "");
  if (text.includes("%")) throw new Error("ext_authz: a header of the check with a format string is not supported");
  return value.replaceAll("%%", "%");
}
