/** Header changes of routes and clusters. */
import {
  type HeaderValueOption,
  HeaderValueOption_HeaderAppendAction as AppendAction,
  HeaderValueOptionSchema,
} from "../../gen/envoy/config/core/v3/base_pb.ts";
import type { HeaderAddSpec, HeaderChangeSpec } from "../spec/mod.ts";
import { parseHeaderValue } from "./format.ts";
import { expectUnderstood, understand, Unsupported } from "./guard.ts";

/** What messages with header changes have in common. */
export interface HeaderChanges {
  readonly requestHeadersToAdd: readonly HeaderValueOption[];
  readonly requestHeadersToRemove: readonly string[];
  readonly responseHeadersToAdd: readonly HeaderValueOption[];
  readonly responseHeadersToRemove: readonly string[];
}

/** The fields of it, for `understand`. */
export const HEADER_CHANGE_FIELDS =
  "request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove";

const NO_CHANGE: HeaderChangeSpec = { requestRemove: [], requestAdd: [], responseRemove: [], responseAdd: [] };

const ACTIONS: Readonly<Record<AppendAction, HeaderAddSpec["action"]>> = {
  [AppendAction.APPEND_IF_EXISTS_OR_ADD]: "append",
  [AppendAction.ADD_IF_ABSENT]: "add if absent",
  [AppendAction.OVERWRITE_IF_EXISTS_OR_ADD]: "overwrite",
  [AppendAction.OVERWRITE_IF_EXISTS]: "overwrite if exists",
};

/** @throws Unsupported */
export function headerChanges(message: HeaderChanges): HeaderChangeSpec {
  const spec: HeaderChangeSpec = {
    requestRemove: message.requestHeadersToRemove.map(lower),
    requestAdd: message.requestHeadersToAdd.map(headerAdd),
    responseRemove: message.responseHeadersToRemove.map(lower),
    responseAdd: message.responseHeadersToAdd.map(headerAdd),
  };
  const isEmpty = Object.values(spec).every((list: readonly unknown[]) => list.length === 0);
  return isEmpty ? NO_CHANGE : spec;
}

const OPTION = understand(HeaderValueOptionSchema, "header append append_action keep_empty_value");

/** @throws Unsupported */
export function headerAdd(option: HeaderValueOption): HeaderAddSpec {
  expectUnderstood(OPTION, option);
  const { header } = option;
  if (header === undefined || header.key === "") throw new Unsupported("a header to add has no name");
  if (header.rawValue.length > 0) throw new Unsupported("HeaderValue.raw_value is not supported");
  const byAction = ACTIONS[option.appendAction];
  if (byAction === undefined) throw new Unsupported(`append_action ${option.appendAction} is not known`);
  // The older switch decides where it is set.
  const action = option.append === undefined ? byAction : option.append ? "append" : "overwrite";
  return { name: lower(header.key), value: parseHeaderValue(header.value), action, keepEmpty: option.keepEmptyValue };
}

function lower(name: string): string {
  return name.toLowerCase();
}
