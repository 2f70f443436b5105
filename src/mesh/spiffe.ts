/** Istio's SPIFFE ids: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` and nothing else. */
import type { SpiffeId, Workload } from "./types.ts";

const SCHEME = "spiffe://";
/** The longest SPIFFE id that implementations must take (SPIFFE-ID section 2.3), in bytes. */
const MAX_LENGTH = 2048;
/** Visible ASCII without what would end or escape a path segment. */
const SEGMENT = /^[!$&'()*+,\-.0-9:;=@A-Z_a-z~]+$/;

export interface SpiffeParts {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Undefined if the text is not an Istio workload's id. No part is empty. */
export function parseSpiffeId(text: string): SpiffeParts | undefined {
  if (text.length > MAX_LENGTH || !text.startsWith(SCHEME)) return undefined;
  const parts = text.slice(SCHEME.length).split("/");
  if (parts.length !== 5 || parts[1] !== "ns" || parts[3] !== "sa") return undefined;
  const [trustDomain, , namespace, , serviceAccount] = parts;
  if (!SEGMENT.test(trustDomain) || !SEGMENT.test(namespace) || !SEGMENT.test(serviceAccount)) return undefined;
  return { trustDomain, namespace, serviceAccount };
}

export function formatSpiffeId(parts: SpiffeParts): SpiffeId {
  return `${SCHEME}${parts.trustDomain}/ns/${parts.namespace}/sa/${parts.serviceAccount}` as SpiffeId;
}

/** The identity a workload's certificate carries. */
export function identityOf(workload: Workload): SpiffeId {
  return formatSpiffeId(workload);
}
