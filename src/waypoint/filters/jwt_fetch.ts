/** Gets an issuer's keys as any upstream of the waypoint is asked: through its cluster, bounded in time and size, never by way of a redirect. */
import type { ClusterName } from "../spec/mod.ts";
import type { FetchKeys } from "./jwt_judge.ts";

/** Where the provider does not say. */
const TIMEOUT_MS = 5_000;

/** What is at an address. Rejects with why it cannot be had. */
export type GetFromCluster = (cluster: ClusterName, uri: string, timeoutMs: number) => Promise<Uint8Array>;

export function keyFetcher(get: GetFromCluster): FetchKeys {
  return async ({ cluster, uri, timeoutMs }) =>
    new TextDecoder("utf-8", { fatal: true }).decode(await get(cluster, uri, timeoutMs || TIMEOUT_MS));
}
