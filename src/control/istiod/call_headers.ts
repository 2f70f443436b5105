/** The metadata of every call to istiod: who calls (reference ztunnel, section 3.1). */
import { readFileSync } from "node:fs";
import type { TokenSource } from "../../cli/config.ts";
import type { IstiodEndpoint } from "./endpoint.ts";
import { IstiodError, textOf } from "./errors.ts";

/** RFC 9110 section 5.5, without the bytes above ASCII that gRPC refuses. */
const FIELD_VALUE = /^[\x20-\x7e\t]*$/;

/** Made anew for each call: the token's file is replaced before it expires. Throws IstiodError of kind `local`. */
export function callHeaders(endpoint: Pick<IstiodEndpoint, "token" | "clusterId" | "headers">): Headers {
  const headers = new Headers();
  const token = readToken(endpoint.token);
  if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
  set(headers, "clusterid", endpoint.clusterId);
  for (const [name, value] of endpoint.headers) set(headers, name, value);
  return headers;
}

function set(headers: Headers, name: string, value: string): void {
  if (!FIELD_VALUE.test(value)) {
    throw new IstiodError("local", `the header ${name} cannot be sent: its value has characters other than ASCII text`);
  }
  headers.set(name, value);
}

function readToken(source: TokenSource): string | undefined {
  switch (source.kind) {
    case "none":
      return undefined;
    case "literal":
      return checked(source.value, "AUTH_TOKEN");
    case "file": {
      let text: string;
      try {
        text = readFileSync(source.path, "utf8");
      } catch (cause) {
        throw new IstiodError("local", `cannot read the token ${source.path}: ${textOf(cause)}`, undefined, cause);
      }
      if (text === "") throw new IstiodError("local", `the token file ${source.path} is empty`);
      return checked(text.replace(/\r?\n$/, ""), source.path);
    }
  }
}

/** The token itself never comes into a message. */
function checked(token: string, origin: string): string {
  if (FIELD_VALUE.test(token)) return token;
  throw new IstiodError("local", `the token in ${origin} has characters that a header cannot carry`);
}
