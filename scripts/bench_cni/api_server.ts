/** A real API server on the loopback, with the objects and the rights that Istio's chart gives the plugin. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createKubeClient, type KubeClient, KubeError } from "../../src/control/kube/client.ts";
import { kubeconfigText } from "../../src/control/kube/kubeconfig.ts";
import { ClusterPki } from "../../tests/istiod/support/pki.ts";
import { type Child, startChild } from "../bench/spawn.ts";

export interface ApiServerBinaries {
  readonly etcd: string;
  readonly kubeApiserver: string;
}

export interface ApiServer {
  /** As an administrator. */
  readonly client: KubeClient;
  /** For the plugin: the token of the agent's service account. */
  readonly kubeconfig: string;
  stop(): Promise<void>;
}

const ETCD_PORT = 2379;
const API_PORT = 6443;
const SERVER = `https://127.0.0.1:${API_PORT}`;
const START_TIMEOUT_MS = 60_000;
const ADMIN_TOKEN = "bench-admin";
const AGENT_NAMESPACE = "istio-system";
const AGENT_ACCOUNT = "istio-cni";
/** The children share the machine's cores with what is measured. */
const ANY_CORE = { core: 0, unpinned: true } as const;

export async function startApiServer(binaries: ApiServerBinaries, directory: string): Promise<ApiServer> {
  mkdirSync(directory, { recursive: true });
  const pki = await ClusterPki.create(directory);
  await pki.issue("apiserver", "/CN=kube-apiserver", "IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc");
  const tokens = join(directory, "tokens.csv");
  writeFileSync(tokens, `${ADMIN_TOKEN},admin,admin,"system:masters"\n`, { mode: 0o600 });
  const children: Child[] = [];
  const start = (name: string, command: readonly string[]) =>
    children.push(startChild(command, { ...ANY_CORE, logFile: join(directory, `${name}.log`) }));
  start("etcd", [
    binaries.etcd,
    `--data-dir=${join(directory, "etcd")}`,
    `--listen-client-urls=http://127.0.0.1:${ETCD_PORT}`,
    `--advertise-client-urls=http://127.0.0.1:${ETCD_PORT}`,
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--unsafe-no-fsync",
  ]);
  start("kube-apiserver", [
    binaries.kubeApiserver,
    `--etcd-servers=http://127.0.0.1:${ETCD_PORT}`,
    `--secure-port=${API_PORT}`,
    "--bind-address=127.0.0.1",
    // The namespace has no other interface to take one from; nobody connects to it.
    "--advertise-address=192.0.2.1",
    `--tls-cert-file=${pki.path("apiserver.crt")}`,
    `--tls-private-key-file=${pki.path("apiserver.key")}`,
    `--token-auth-file=${tokens}`,
    `--service-account-key-file=${pki.path("sa.pub")}`,
    `--service-account-signing-key-file=${pki.path("sa.key")}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    "--api-audiences=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--authorization-mode=RBAC",
    "--disable-admission-plugins=ServiceAccount",
  ]);
  const ca = readFileSync(pki.path("ca.crt"), "utf8");
  const client = createKubeClient({ server: SERVER, ca, token: () => ADMIN_TOKEN });
  const stop = async () => {
    client.close();
    for (const child of children.reverse()) await child.stop();
  };
  try {
    await ready(client, children);
    const token = await createAgentAccount(client);
    return { client, kubeconfig: kubeconfigText({ server: SERVER, ca, token }), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** When the API server says so, and its first namespace is there. */
async function ready(client: KubeClient, children: readonly Child[]): Promise<void> {
  const endMs = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await client.get("/api/v1/namespaces/default");
      return;
    } catch (error) {
      const ended = children.find(({ process }) => process.exitCode !== null);
      if (ended !== undefined) throw new Error(`the API server does not start: see the end of ${ended.logFile}`);
      if (performance.now() > endMs) throw new Error(`the API server does not start: ${(error as Error).message}`);
    }
    await delay(100);
  }
}

/** The rights of Istio's chart, as far as the plugin uses them. Resolves with a token. */
async function createAgentAccount(client: KubeClient): Promise<string> {
  const rbac = "/apis/rbac.authorization.k8s.io/v1";
  await createNamespace(client, AGENT_NAMESPACE);
  const account = { name: AGENT_ACCOUNT, namespace: AGENT_NAMESPACE };
  const accounts = `/api/v1/namespaces/${AGENT_NAMESPACE}/serviceaccounts`;
  await client.create(accounts, { metadata: account });
  await client.create(`${rbac}/clusterroles`, {
    metadata: { name: "istio-cni" },
    rules: [{ apiGroups: [""], resources: ["pods", "nodes", "namespaces"], verbs: ["get", "list", "watch"] }],
  });
  await client.create(`${rbac}/clusterrolebindings`, {
    metadata: { name: "istio-cni" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "istio-cni" },
    subjects: [{ kind: "ServiceAccount", ...account }],
  });
  const answer = await client.create<{ readonly status: { readonly token: string } }>(
    `${accounts}/${AGENT_ACCOUNT}/token`,
    { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 7200 } },
  );
  return answer.status.token;
}

/** With labels; one that is there already is left as it is. */
export async function createNamespace(
  client: KubeClient,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  try {
    await client.create("/api/v1/namespaces", { metadata: { name, labels } });
  } catch (error) {
    if (!(error instanceof KubeError) || error.status !== 409) throw error;
  }
}

export async function createPod(client: KubeClient, namespace: string, name: string): Promise<void> {
  await client.create(`/api/v1/namespaces/${namespace}/pods`, {
    metadata: { name, namespace, labels: { app: name } },
    spec: { nodeName: "bench", containers: [{ name: "app", image: "app" }] },
  });
}
