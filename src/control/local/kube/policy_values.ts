/** Lists of values in rules of an AuthorizationPolicy, with Istio's wildcards: `prefix*`, `*suffix`, `*` for anything that is there. */
import { parsePort } from "../../../mesh/socket_address.ts";
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readIpBlocks } from "./values.ts";

/** Istio's limits for service accounts. */
const MAX_SERVICE_ACCOUNTS = 16;
const MAX_SERVICE_ACCOUNT = 320;
/** `NAME` in the policy's own namespace, or `NAMESPACE/NAME`. */
const SERVICE_ACCOUNT = /^[^/*]+(\/[^/*]+)?$/;
/** RFC 3986's pchar, which is what a path template may hold besides its operators. */
const LITERAL = /^[a-zA-Z0-9\-._~%!$&'()+,;:@=]+$/;
const ONE = "{*}";
const ANY = "{**}";

type Check = (reader: FieldReader, text: string, path: SourcePath) => void;

/** An empty list is refused, for it reads as nobody and would mean everybody. */
function readChecked(
  reader: FieldReader,
  fields: Fields,
  key: string,
  path: SourcePath,
  check: Check,
): readonly string[] {
  const list = fields[key];
  if (Array.isArray(list) && list.length === 0) {
    reader.fail([...path, key], `${key} is empty; leave it out to say nothing about it`);
  }
  return reader.textItems(fields, key, path).map(({ text, path }) => {
    check(reader, text, path);
    return text;
  });
}

/** Texts as they are written. */
export function readTexts(reader: FieldReader, fields: Fields, key: string, path: SourcePath): readonly string[] {
  return readChecked(reader, fields, key, path, () => {});
}

/** Texts of which one may begin or end with `*`. */
export function readPatterns(reader: FieldReader, fields: Fields, key: string, path: SourcePath): readonly string[] {
  return readChecked(reader, fields, key, path, checkPattern);
}

/** Elsewhere Istio would take the `*` for itself, which is hardly what was meant. */
function checkPattern(reader: FieldReader, pattern: string, path: SourcePath): void {
  const rest = pattern.startsWith("*") ? pattern.slice(1) : pattern.endsWith("*") ? pattern.slice(0, -1) : pattern;
  if (rest.includes("*")) {
    reader.fail(path, `a wildcard "*" stands at the beginning or at the end, not both: ${JSON.stringify(pattern)}`);
  }
}

export function readRanges(reader: FieldReader, fields: Fields, key: string, path: SourcePath): readonly string[] {
  if (Array.isArray(fields[key]) && fields[key].length === 0) return readTexts(reader, fields, key, path);
  return readIpBlocks(reader, fields, key, path);
}

export function readServiceAccounts(
  reader: FieldReader,
  fields: Fields,
  key: string,
  path: SourcePath,
): readonly string[] {
  const accounts = readChecked(reader, fields, key, path, checkServiceAccount);
  if (accounts.length > MAX_SERVICE_ACCOUNTS) {
    reader.fail([...path, key], `${key} holds more than ${MAX_SERVICE_ACCOUNTS} service accounts`);
  }
  return accounts;
}

function checkServiceAccount(reader: FieldReader, account: string, path: SourcePath): void {
  if (account.length <= MAX_SERVICE_ACCOUNT && SERVICE_ACCOUNT.test(account)) return;
  reader.fail(
    path,
    `a service account is written NAME or NAMESPACE/NAME, without wildcards, not ${JSON.stringify(account)}`,
  );
}

/** Ports as texts, as Istio has them. */
export function readPorts(reader: FieldReader, fields: Fields, key: string, path: SourcePath): readonly string[] {
  return readChecked(reader, fields, key, path, (reader, port, path) => {
    if (!parsePort(port)) {
      reader.fail(path, `a port is a number from 1 to 65535, in quotes, not ${JSON.stringify(port)}`);
    }
  });
}

/** Paths: patterns, or templates with `{*}` for one element and `{**}` for any number of them at the end. */
export function readPaths(reader: FieldReader, fields: Fields, key: string, path: SourcePath): readonly string[] {
  return readChecked(reader, fields, key, path, (reader, text, path) => {
    if (text.includes(ONE) || text.includes(ANY)) checkTemplate(reader, text, path);
    else if (/[{}]/.test(text)) {
      reader.fail(path, `"{" and "}" are for the operators {*} and {**}: ${JSON.stringify(text)}`);
    } else checkPattern(reader, text, path);
  });
}

/** Istio's rules for templates, which are those of Envoy's uri_template. */
function checkTemplate(reader: FieldReader, template: string, path: SourcePath): void {
  const what = JSON.stringify(template);
  let isOver = false;
  for (const element of template.replace(/^\/+|\/+$/g, "").split("/")) {
    const isOperator = element === ONE || element === ANY;
    if (isOperator && isOver) return void reader.fail(path, `{**} must be the last operator: ${what}`);
    isOver ||= element === ANY;
    if (!isOperator && !LITERAL.test(element)) {
      return void reader.fail(path, `an element of a path template is {*}, {**} or plain text, not both: ${what}`);
    }
  }
}
