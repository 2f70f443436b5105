/** What a waypoint does to the headers of every request and answer, as Envoy does it with Istio's settings (waypoint.md, Corrections). */
import type { FieldList, RequestHead } from "../http/exchange.ts";
import { first, has, remove, set } from "../http/fields.ts";
import type { HttpOptionsSpec } from "../spec/mod.ts";
import type { ConnectionInfo } from "./connection_info.ts";

/** Envoy's own controls: from a client they would decide about retries and timeouts. */
const CONTROLS = [
  "x-envoy-internal",
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-max-retries",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-stream-duration-ms",
  "x-envoy-hedge-on-per-try-timeout",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-force-trace",
  "x-envoy-ip-tags",
];
const XFCC = "x-forwarded-client-cert";

export function sanitizeRequest(
  head: RequestHead,
  options: HttpOptionsSpec,
  info: ConnectionInfo,
  uuid: () => string,
): void {
  const { headers } = head;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i].startsWith("x-envoy-")) {
      for (const name of CONTROLS) remove(headers, name);
      break;
    }
  }
  clientCertificate(headers, options, info);
  if (head.scheme === "") head.scheme = schemeOf(headers);
  if (!has(headers, "x-forwarded-proto")) headers.push("x-forwarded-proto", head.scheme);
  if (!has(headers, "x-request-id")) {
    if (options.requestId.generate) headers.push("x-request-id", uuid());
  }
}

function schemeOf(headers: FieldList): string {
  return first(headers, "x-forwarded-proto") === "https" ? "https" : "http";
}

function clientCertificate(headers: FieldList, options: HttpOptionsSpec, info: ConnectionInfo): void {
  switch (options.forwardedClientCert) {
    case "sanitize":
    case "set":
      remove(headers, XFCC);
      break;
    case "append":
    case "forward only":
      break;
  }
  if (options.setClientCert) set(headers, XFCC, `By=${info.localPrincipal};URI=${info.peerPrincipal}`);
}

/** The answer's own headers; `local`: it was made here. */
export function finishResponse(headers: FieldList, options: HttpOptionsSpec, wallMs: number): void {
  if (!has(headers, "date")) headers.push("date", httpDate(wallMs));
  switch (options.serverHeader) {
    case "overwrite":
      set(headers, "server", options.serverName);
      break;
    case "append if absent":
      if (!has(headers, "server")) headers.push("server", options.serverName);
      break;
    case "pass through":
      break;
  }
}

let dateSecond = -1;
let dateText = "";

/** Once a second. */
function httpDate(wallMs: number): string {
  const second = Math.floor(wallMs / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(second * 1000).toUTCString();
  }
  return dateText;
}
