/** Values that more than one kind holds: header names, durations, ports, host names, expressions, address ranges. */
import { RE2JS } from "re2js";
import { formatCidr, parseCidr } from "../../../mesh/ip.ts";
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { parseDuration } from "./durations.ts";

/** RFC 9110's token, as the Gateway API bounds it. No pseudo-header fits. */
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}$/;
/** A field value must not end the line it stands in (RFC 9110 section 5.5). */
// deno-lint-ignore no-control-regex
const NO_HEADER_VALUE = /[\x00-\x08\x0a-\x1f\x7f]/;
/** The Gateway API's limit for values of headers. */
const MAX_HEADER_VALUE = 4096;
const HOSTNAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const MAX_HOSTNAME = 253;
/** Envoy's limit for the program of an expression, which is what it costs to run. */
const MAX_PROGRAM = 32_768;

export function readHeaderName(reader: FieldReader, fields: Fields, key: string, path: SourcePath): string {
  const name = reader.requiredText(fields, key, path);
  checkHeaderName(reader, name, [...path, key]);
  return name;
}

export function checkHeaderName(reader: FieldReader, name: string, path: SourcePath): void {
  if (name !== "" && !HEADER_NAME.test(name)) reader.fail(path, `${JSON.stringify(name)} is no name of a header`);
}

/** The value of a header: without line breaks. */
export function readHeaderValue(reader: FieldReader, fields: Fields, key: string, path: SourcePath): string {
  const value = reader.requiredText(fields, key, path);
  if (NO_HEADER_VALUE.test(value)) {
    reader.fail([...path, key], `${key} holds a character that cannot be in a header`);
  } else if (value.length > MAX_HEADER_VALUE) {
    reader.fail([...path, key], `${key} is longer than ${MAX_HEADER_VALUE} characters`);
  } else return value;
  return "";
}

/** In milliseconds; absent reads as undefined. */
export function readDuration(reader: FieldReader, fields: Fields, key: string, path: SourcePath): number | undefined {
  const text = reader.text(fields, key, path);
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms !== undefined) return ms;
  return reader.fail([...path, key], `${key} must be a duration like 10s, 1m30s or 500ms, is ${JSON.stringify(text)}`);
}

/** Absent reads as false. */
export function readFlag(reader: FieldReader, fields: Fields, key: string, path: SourcePath): boolean {
  if (fields[key] === null) reader.fail([...path, key], `${key} has no value; write true or false`);
  return reader.flag(fields, key, path, false);
}

export function readPort(reader: FieldReader, fields: Fields, key: string, path: SourcePath): number | undefined {
  return reader.integer(fields, key, path, 1, 65_535);
}

/** A host name without wildcards, as in a Host header, without a port. */
export function readHostname(reader: FieldReader, fields: Fields, key: string, path: SourcePath): string | undefined {
  const name = reader.text(fields, key, path);
  if (name === undefined || (name.length <= MAX_HOSTNAME && HOSTNAME.test(name))) return name;
  return reader.fail([...path, key], `${key} must be a host name in lower case, is ${JSON.stringify(name)}`);
}

/** Whether RE2 takes `pattern`, as a program that is not too large; else it is told why not. */
export function checkRegex(reader: FieldReader, pattern: string, path: SourcePath): boolean {
  try {
    if (RE2JS.compile(pattern).programSize() <= MAX_PROGRAM) return true;
    reader.fail(path, `the regular expression ${JSON.stringify(pattern)} is too large; write a shorter one`);
  } catch (error) {
    reader.fail(
      path,
      `${JSON.stringify(pattern)} is no regular expression of RE2, which has no look-around and no back-references: ${
        (error as Error).message
      }`,
    );
  }
  return false;
}

/** A list of address ranges in canonical form: `10.0.0.0/8`; an address is the range of itself. */
export function readIpBlocks(reader: FieldReader, fields: Fields, key: string, path: SourcePath): readonly string[] {
  return reader.textItems(fields, key, path).flatMap(({ text, path }) => {
    const range = parseCidr(text);
    if (range !== undefined) return [formatCidr(range)];
    reader.fail(path, `${JSON.stringify(text)} is no address range; write it like "10.0.0.0/8"`);
    return [];
  });
}
