/** One issuer of a RequestAuthentication: its keys, where its tokens stand, and what is made of them. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { parseDuration } from "./durations.ts";
import type { JwtRule } from "./objects.ts";
import { checkHeaderName, readFlag, readHeaderName } from "./values.ts";

const KEYS = [
  "issuer",
  "audiences",
  "jwks",
  "jwksUri",
  "fromHeaders",
  "fromParams",
  "fromCookies",
  "outputPayloadToHeader",
  "outputClaimToHeaders",
  "forwardOriginalToken",
  "timeout",
] as const;
/** Istio is stricter with headers that it makes of claims. */
const CLAIM_HEADER = /^[-_A-Za-z0-9]+$/;
/** A google.protobuf.Duration as JSON, as Istio has it. */
const SECONDS = /^[0-9]{1,9}(\.[0-9]{1,9})?s$/;

export function readJwtRule(reader: FieldReader, fields: Fields, path: SourcePath): JwtRule {
  reader.onlyKnown(fields, KEYS, path, {
    jwks_uri: "write jwksUri",
    spaceDelimitedClaims: "spaceDelimitedClaims is not supported by ambit local; scope and permission are split anyway",
  });
  const jwks = readJwks(reader, fields, path);
  const jwksUri = readJwksUri(reader, fields, path);
  if (fields.jwks === undefined && fields.jwksUri === undefined) {
    reader.fail(path, "jwks or jwksUri is missing; ambit local does not ask the issuer where its keys are");
  } else if (fields.jwks !== undefined && fields.jwksUri !== undefined) {
    reader.fail([...path, "jwksUri"], "a rule has either jwks or jwksUri, not both");
  }
  const outputPayloadToHeader = reader.text(fields, "outputPayloadToHeader", path);
  checkHeaderName(reader, outputPayloadToHeader ?? "", [...path, "outputPayloadToHeader"]);
  return {
    issuer: reader.requiredText(fields, "issuer", path),
    audiences: reader.textList(fields, "audiences", path),
    jwks,
    jwksUri,
    fromHeaders: reader.list(fields, "fromHeaders", path)
      .map(({ fields, path }) => readFromHeader(reader, fields, path)),
    fromParams: reader.textList(fields, "fromParams", path),
    fromCookies: reader.textList(fields, "fromCookies", path),
    outputPayloadToHeader,
    outputClaimToHeaders: reader.list(fields, "outputClaimToHeaders", path)
      .map(({ fields, path }) => readClaimHeader(reader, fields, path)),
    forwardOriginalToken: readFlag(reader, fields, "forwardOriginalToken", path),
    timeoutMs: readTimeout(reader, fields, path),
    path,
  };
}

/** JSON in a text, as Istio has it. A private key has no place there, and would not verify anything. */
function readJwks(reader: FieldReader, fields: Fields, path: SourcePath): string | undefined {
  const text = reader.text(fields, "jwks", path);
  if (text === undefined) return undefined;
  const at = [...path, "jwks"];
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    return reader.fail(at, `jwks is no JSON; write '{"keys": [...]}'`);
  }
  const keys: unknown = typeof set === "object" && set !== null && "keys" in set ? set.keys : undefined;
  const isKey = (key: unknown): key is Fields =>
    typeof key === "object" && key !== null && typeof (key as Fields).kty === "string";
  if (!Array.isArray(keys) || keys.length === 0 || !keys.every(isKey)) {
    return reader.fail(at, `jwks is no set of JSON Web Keys; write '{"keys": [{"kty": ..., ...}]}'`);
  }
  const isPrivate = keys.some((key) => key.kty !== "oct" && key.d !== undefined);
  return isPrivate ? reader.fail(at, `jwks holds a private key; leave "d" and what comes with it out`) : text;
}

function readJwksUri(reader: FieldReader, fields: Fields, path: SourcePath): string | undefined {
  const text = reader.text(fields, "jwksUri", path);
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if ((url?.protocol === "http:" || url?.protocol === "https:") && url.username === "" && url.hash === "") return text;
  return reader.fail([...path, "jwksUri"], `jwksUri must be a URL of http or https, is ${JSON.stringify(text)}`);
}

function readFromHeader(reader: FieldReader, fields: Fields, path: SourcePath): JwtRule["fromHeaders"][number] {
  reader.onlyKnown(fields, ["name", "prefix"], path);
  const prefix = fields.prefix === "" ? "" : reader.text(fields, "prefix", path) ?? "";
  return { name: readHeaderName(reader, fields, "name", path), prefix };
}

function readClaimHeader(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
): JwtRule["outputClaimToHeaders"][number] {
  reader.onlyKnown(fields, ["header", "claim"], path);
  const header = reader.requiredText(fields, "header", path);
  if (header !== "" && !CLAIM_HEADER.test(header)) {
    reader.fail([...path, "header"], `header must be letters, digits, "-" and "_", is ${JSON.stringify(header)}`);
  }
  return { header, claim: reader.requiredText(fields, "claim", path) };
}

function readTimeout(reader: FieldReader, fields: Fields, path: SourcePath): number | undefined {
  const text = reader.text(fields, "timeout", path);
  if (text === undefined) return undefined;
  const ms = SECONDS.test(text) ? Math.round(Number.parseFloat(text) * 1000) : parseDuration(text);
  if (ms !== undefined && ms >= 1) return ms;
  return reader.fail([...path, "timeout"], `timeout must be a duration like 5s or 0.5s, is ${JSON.stringify(text)}`);
}
