/** `CNI_ARGS`: what the runtime says about the pod. Reference cni.md 2.1; read as CNI's Go library does. */

export interface PodArgs {
  /** Empty when the sandbox is not a Kubernetes pod's. */
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
}

const FIELDS = ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"] as const;
type Field = typeof FIELDS[number];

/**
 * `key=value` pairs joined by `;`; of a key given twice the last counts.
 * @throws Error for a malformed pair, and for unknown keys unless `IgnoreUnknown` is set
 */
export function parseCniArgs(text: string): PodArgs {
  const found = new Map<Field, string>();
  const unknown: string[] = [];
  let ignoreUnknown = false;
  for (const pair of text === "" ? [] : text.split(";")) {
    const parts = pair.split("=");
    if (parts.length !== 2) throw new Error(`ARGS: invalid pair ${JSON.stringify(pair)}`);
    const [key, value] = parts;
    if (key === "IgnoreUnknown") ignoreUnknown = parseBool(value, pair);
    else if (isField(key)) found.set(key, value);
    else unknown.push(pair);
  }
  if (unknown.length > 0 && !ignoreUnknown) throw new Error(`ARGS: unknown args ${JSON.stringify(unknown)}`);
  return {
    podName: found.get("K8S_POD_NAME") ?? "",
    podNamespace: found.get("K8S_POD_NAMESPACE") ?? "",
    podUid: found.get("K8S_POD_UID") ?? "",
  };
}

function isField(key: string): key is Field {
  return FIELDS.some((field) => field === key);
}

function parseBool(value: string, pair: string): boolean {
  const lower = value.toLowerCase();
  if (lower === "1" || lower === "true") return true;
  if (lower === "0" || lower === "false") return false;
  throw new Error(`ARGS: error parsing value of pair ${JSON.stringify(pair)}: must be true or false`);
}
