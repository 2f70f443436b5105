/**
 * The API server as the tests use it: plain HTTP over the unix socket of a `kubectl proxy` that runs beside it, so that nothing of
 * it is on the machine's own network.
 */
import { Agent, request } from "node:http";

/** A Kubernetes object as far as every one has it. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

export class KubeError extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

const CLUSTER_SCOPED = new Set([
  "Namespace",
  "Node",
  "CustomResourceDefinition",
  "GatewayClass",
  "ClusterRole",
  "ClusterRoleBinding",
]);
const IRREGULAR: Readonly<Record<string, string>> = { Gateway: "gateways", GatewayClass: "gatewayclasses" };
const NAMESPACE_TRIES = 10;
const MERGE_PATCH = "application/merge-patch+json";

export class KubeApi {
  readonly #socketPath: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 });

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Makes the object; one of this name that is there already is replaced in what is given. Its status goes through the subresource. */
  async apply(object: KubeObject): Promise<KubeObject> {
    const { status, ...wanted } = object;
    let made: KubeObject;
    try {
      made = await this.#create(collectionPath(object), wanted);
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 409) throw error;
      made = await this.#send("PATCH", objectPath(object), wanted, MERGE_PATCH);
    }
    return status === undefined ? made : await this.patchStatus(object, status);
  }

  /** An API server that has much to do may not know of a namespace yet that it has just made. */
  async #create(path: string, wanted: unknown): Promise<KubeObject> {
    for (let tries = 1;; tries++) {
      try {
        return await this.#send("POST", path, wanted);
      } catch (error) {
        const isEarly = error instanceof KubeError && error.status === 404 &&
          /namespaces ".*" not found/.test(error.message);
        if (!isEarly || tries === NAMESPACE_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }

  /** Changes what is given of an object. */
  patch(object: KubeObject, change: unknown): Promise<KubeObject> {
    return this.#send("PATCH", objectPath(object), change, MERGE_PATCH);
  }

  patchStatus(object: KubeObject, status: unknown): Promise<KubeObject> {
    return this.#send("PATCH", `${objectPath(object)}/status`, { status }, MERGE_PATCH);
  }

  get(object: KubeObject): Promise<KubeObject> {
    return this.#send("GET", objectPath(object));
  }

  /** At once, without a grace period. An object that is not there is no error. */
  async delete(object: KubeObject): Promise<void> {
    try {
      await this.#send("DELETE", objectPath(object), { gracePeriodSeconds: 0, propagationPolicy: "Background" });
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 404) throw error;
    }
  }

  /** A token of a service account for istiod's CA, bound to a pod as a projected volume's is. */
  async createToken(namespace: string, account: string, pod: { name: string; uid: string }): Promise<string> {
    const answer = await this.#send("POST", `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {
        audiences: ["istio-ca"],
        expirationSeconds: 43_200,
        boundObjectRef: { apiVersion: "v1", kind: "Pod", name: pod.name, uid: pod.uid },
      },
    });
    return (answer.status as { token: string }).token;
  }

  /** Whatever the path answers, as text. */
  async read(path: string): Promise<string> {
    return (await this.#request("GET", path)).text;
  }

  close(): void {
    this.#agent.destroy();
  }

  async #send(method: string, path: string, body?: unknown, contentType?: string): Promise<KubeObject> {
    const { status, text } = await this.#request(method, path, body, contentType);
    if (status >= 200 && status < 300) return JSON.parse(text) as KubeObject;
    throw new KubeError(`${method} ${path}: ${status} ${messageOf(text)}`, status);
  }

  #request(method: string, path: string, body?: unknown, contentType = "application/json") {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise<{ readonly status: number; readonly text: string }>((resolve, reject) => {
      const headers = bytes === undefined ? {} : { "content-type": contentType, "content-length": bytes.length };
      const sent = request(
        { socketPath: this.#socketPath, path, method, agent: this.#agent, headers: { host: "localhost", ...headers } },
        (response) => {
          const chunks: Uint8Array[] = [];
          response.on("data", (chunk: Uint8Array) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () => {
            resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
          });
        },
      );
      sent.on("error", reject);
      sent.end(bytes);
    });
  }
}

function messageOf(text: string): string {
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text;
  } catch {
    return text;
  }
}

function collectionPath({ apiVersion, kind, metadata }: KubeObject): string {
  const base = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const scope = CLUSTER_SCOPED.has(kind) ? "" : `/namespaces/${metadata.namespace ?? "default"}`;
  return `${base}${scope}/${pluralOf(kind)}`;
}

function objectPath(object: KubeObject): string {
  return `${collectionPath(object)}/${object.metadata.name}`;
}

function pluralOf(kind: string): string {
  const lower = kind.toLowerCase();
  return IRREGULAR[kind] ??
    (/(?:s|x|ch)$/.test(lower) ? `${lower}es` : /[^aeiou]y$/.test(lower) ? `${lower.slice(0, -1)}ies` : `${lower}s`);
}
