/**
 * The Kubernetes client and the informer against a real API server: run inside the lab by scenarios/kube_client.ts, on Deno and on Bun.
 * Prints one JSON object of what it saw.
 *
 *   kube_checks.ts SERVER CA_FILE TOKEN_FILE EXPIRED_TOKEN_FILE NAMESPACE
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { createKubeClient, KubeError } from "../../../src/control/kube/client.ts";
import { startInformer } from "../../../src/control/kube/informer.ts";
import { listAll, METADATA_ONLY } from "../../../src/control/kube/list.ts";
import { tokenFile } from "../../../src/control/kube/token.ts";
import type { KubeObject } from "../../../src/control/kube/types.ts";
import { until } from "../../control/kube/until.ts";

const [server = "", caFile = "", token = "", expiredToken = "", namespace = ""] = process.argv.slice(2);
const ca = readFileSync(caFile, "utf8");
const client = createKubeClient({ server, ca, token: tokenFile(token) });
const late = createKubeClient({ server, ca, token: tokenFile(expiredToken) });
const signal = new AbortController().signal;
const pods = `/api/v1/namespaces/${namespace}/pods`;

async function failure(call: Promise<unknown>) {
  const error = await call.then(() => undefined, (error: unknown) => error);
  if (!(error instanceof KubeError)) return { status: -1, reason: "", message: `no KubeError: ${error}` };
  return { status: error.status, reason: error.reason, message: error.message };
}

const told: string[] = [];
const problems: string[] = [];
const informer = startInformer<KubeObject>(client, "/api/v1/pods", { fieldSelector: `spec.nodeName=${namespace}` }, {
  added: ({ metadata }) => told.push(`+${metadata.name}`),
  updated: (_, { metadata }) => told.push(`~${metadata.name} ${metadata.annotations?.["checked"] ?? ""}`),
  deleted: ({ metadata }) => told.push(`-${metadata.name}`),
  synced: () => told.push("synced"),
  problem: (text) => problems.push(text),
});
await informer.synced;
await until(() => told.includes("+first"), "the first pod");
const place = informer.get(`${namespace}/first`)?.metadata.resourceVersion ?? "";

// The pod's labels are the spec's, so the agent may not change them; its annotations go through the status, as the agent's do.
await client.mergePatch(`${pods}/first/status`, { metadata: { annotations: { checked: "grüß" } } });
await until(() => told.includes("~first grüß"), "the change");

// A watch that ends when its time is over.
const chunks: string[] = [];
await client.stream(
  `${pods}?watch=1&timeoutSeconds=1&resourceVersion=${place}`,
  { signal, silenceMs: () => 20_000 },
  (chunk) => chunks.push(new TextDecoder().decode(chunk)),
);

const all = await listAll<KubeObject>(client, "/api/v1/namespaces", { accept: METADATA_ONLY }, "0", signal);
const exact = await listAll<KubeObject>(client, "/api/v1/namespaces", {}, all.resourceVersion, signal);
const now = await listAll<KubeObject>(client, "/api/v1/namespaces", {}, "", signal);

const report = {
  told,
  problems,
  watched: chunks.join(""),
  kinds: [...new Set(all.items.map((item) => (item as { kind?: string }).kind))],
  namespaces: [all, exact, now].map(({ items }) => items.length),
  missing: await failure(client.get(`${pods}/none`)),
  forbidden: await failure(client.get("/api/v1/secrets")),
  conflict: await failure(client.mergePatch(`${pods}/first/status`, { metadata: { uid: "another", annotations: {} } })),
  future: await failure(listAll(client, "/api/v1/namespaces", {}, "99999999999", signal)),
  expired: await failure(late.get(pods)),
};
informer.stop();
client.close();
late.close();
console.log(JSON.stringify(report));
