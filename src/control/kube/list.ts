/** A whole list from the API server, page by page. */
import { type KubeClient, KubeError } from "./client.ts";
import type { KubeList, KubeObject } from "./types.ts";
import { isKubeObject } from "./watch_lines.ts";

export interface ListQuery {
  /** `spec.nodeName=node-1`. */
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** Instead of `application/json`, for example `METADATA_ONLY`. */
  readonly accept?: string;
}

/** For whoever reads labels and annotations only; every API server since 1.15 knows it. */
export const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

export interface Listed<T> {
  readonly items: readonly T[];
  /** Where a watch goes on. */
  readonly resourceVersion: string;
}

const PAGE_ITEMS = 500;
/** A server that answers from its cache gives everything on one page: 5,000 namespaces of 4 KiB, or a node's pods of 100 KiB each. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** Nobody has as many; a server that always has one more page must not fill our memory. */
const MAX_PAGES = 1_000;
const PAGE_TIMEOUT_MS = 60_000;

/**
 * @param notOlderThan a version that must be contained; "0": whatever the server has in its cache, which spares etcd a search through
 * all pods of the cluster; "": what is true now
 */
export async function listAll<T extends KubeObject>(
  client: KubeClient,
  path: string,
  query: ListQuery,
  notOlderThan: string,
  signal: AbortSignal,
): Promise<Listed<T>> {
  const items: T[] = [];
  let next = "";
  for (let page = 0; page < MAX_PAGES; page++) {
    const where: Record<string, string> = next !== ""
      ? { continue: next }
      : notOlderThan === ""
      ? {}
      : { resourceVersion: notOlderThan, resourceVersionMatch: "NotOlderThan" };
    const list = await client.read<KubeList<T>>(
      `${path}?${queryText(query, { limit: String(PAGE_ITEMS), ...where })}`,
      {
        signal,
        accept: query.accept === METADATA_ONLY ? METADATA_LIST_ONLY : query.accept,
        timeoutMs: PAGE_TIMEOUT_MS,
        maxBytes: MAX_PAGE_BYTES,
      },
    );
    // The items of a list of a known kind may come without their own.
    for (const item of list.items ?? []) {
      if (!isKubeObject(item)) throw malformed(client, path, "an item without a name or version");
      items.push(item);
    }
    const { continue: more = "", resourceVersion } = list.metadata ?? {};
    if (more === "") {
      if (typeof resourceVersion === "string" && resourceVersion !== "") return { items, resourceVersion };
      throw malformed(client, path, "no version to watch from");
    }
    next = more;
  }
  throw malformed(client, path, `more than ${MAX_PAGES} pages`);
}

function malformed(client: KubeClient, path: string, what: string): KubeError {
  return new KubeError(`GET ${path} at ${client.server}: the list has ${what}; is this an API server?`, 0, "Protocol");
}

/** Joined with `&`, in a steady order. */
export function queryText({ fieldSelector, labelSelector }: ListQuery, more: Readonly<Record<string, string>>): string {
  const parameters = new URLSearchParams();
  if (fieldSelector !== undefined) parameters.set("fieldSelector", fieldSelector);
  if (labelSelector !== undefined) parameters.set("labelSelector", labelSelector);
  for (const [name, value] of Object.entries(more)) parameters.set(name, value);
  return parameters.toString();
}
