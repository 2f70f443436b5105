/** `when` of a rule: for each attribute of Istio's table, which side of Envoy's RBAC it stands on and how it is matched. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { PolicyCondition } from "../kube/objects.ts";
import {
  claimValue,
  directIp,
  peerNamespace,
  peerPrincipal,
  peerServiceAccount,
  remoteIp,
  requestPrincipal,
} from "./rbac_principals.ts";
import { cidr, headerMatch, patternMatch } from "./text_matchers.ts";

export interface ConditionSpec {
  readonly side: "permission" | "principal";
  /** Only a request has it. */
  readonly isHttp: boolean;
  readonly match: (value: string) => JsonObject;
}

/** @throws Error for an attribute that the reader should have refused */
export function conditionSpec({ key }: PolicyCondition, policyNamespace: string): ConditionSpec {
  const header = /^request\.headers\[(.+)\]$/.exec(key)?.[1];
  if (header !== undefined) return principal(true, (value) => headerMatch(header.toLowerCase(), value));
  if (key.startsWith("request.auth.claims[")) {
    const path = [...key.matchAll(/\[([^[\]]+)\]/g)].map(([, name]) => name!);
    return principal(true, (value) => claimValue(path, value));
  }
  switch (key) {
    case "source.ip":
      return principal(false, directIp);
    case "remote.ip":
      return principal(false, remoteIp);
    case "source.namespace":
      return principal(false, peerNamespace);
    case "source.principal":
      return principal(false, peerPrincipal);
    case "source.serviceAccount":
      return principal(false, (value) => peerServiceAccount(value, policyNamespace));
    case "request.auth.principal":
      return principal(true, requestPrincipal);
    case "request.auth.audiences":
      return principal(true, (value) => claimValue(["aud"], value));
    case "request.auth.presenter":
      return principal(true, (value) => claimValue(["azp"], value));
    case "destination.ip":
      return permission((value) => ({ destination_ip: cidr(value) }));
    case "destination.port":
      return permission((value) => ({ destination_port: Number(value) }));
    case "connection.sni":
      return permission((value) => ({ requested_server_name: patternMatch(value) }));
    default:
      throw new Error(`the condition ${key} has no matcher`);
  }
}

function principal(isHttp: boolean, match: (value: string) => JsonObject): ConditionSpec {
  return { side: "principal", isHttp, match };
}

function permission(match: (value: string) => JsonObject): ConditionSpec {
  return { side: "permission", isHttp: false, match };
}
