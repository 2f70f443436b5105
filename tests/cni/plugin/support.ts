/**
 * What the plugin talks to, as its tests need them: the agent's sockets and an API server with TLS. What was asked is
 * kept, and the answer may be any.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EVENT_SOCKET_NAME, KUBECONFIG_NAME, LOG_SOCKET_NAME } from "../../../src/cni/net_conf.ts";
import { kubeconfigText } from "../../../src/control/kube/kubeconfig.ts";

export interface AgentRequest {
  readonly method: string;
  readonly path: string;
  readonly contentType: string;
  readonly body: string;
}

export type AgentAnswer = (request: AgentRequest, response: ServerResponse) => void;

export class AgentStandIn {
  /** The run directory. */
  readonly directory = mkdtempSync(join(tmpdir(), "ambit-plugin-"));
  readonly events: AgentRequest[] = [];
  readonly logs: AgentRequest[] = [];
  readonly #servers: Server[] = [];

  /** Without an answer there is no such socket. */
  static async start(answers: { readonly event?: AgentAnswer; readonly log?: AgentAnswer }): Promise<AgentStandIn> {
    const agent = new AgentStandIn();
    await agent.#serve(EVENT_SOCKET_NAME, agent.events, answers.event);
    await agent.#serve(LOG_SOCKET_NAME, agent.logs, answers.log);
    return agent;
  }

  async #serve(name: string, seen: AgentRequest[], answer: AgentAnswer | undefined): Promise<void> {
    if (answer === undefined) return;
    const server = createServer((request, response) => {
      void read(request).then((asked) => {
        seen.push(asked);
        answer(asked, response);
      });
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(join(this.directory, name), resolve));
  }

  /** Every log line that came, parsed. */
  get logLines(): Record<string, string>[] {
    return this.logs.flatMap(({ body }) => (JSON.parse(body) as string[]).map((line) => JSON.parse(line)));
  }

  stop(): void {
    for (const server of this.#servers) {
      server.closeAllConnections();
      server.close();
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export const answerOk: AgentAnswer = (_, response) => void response.end();

export function answerWith(status: number, text: string): AgentAnswer {
  return (_, response) => void response.writeHead(status, { "content-type": "text/plain" }).end(text);
}

async function read(request: IncomingMessage): Promise<AgentRequest> {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { method = "", url: path = "", headers } = request;
  return { method, path, contentType: headers["content-type"] ?? "", body };
}

interface KeyPair {
  readonly key: string;
  readonly cert: string;
}

let issued: { readonly good: KeyPair; readonly foreign: KeyPair } | undefined;

/** Two certificates for 127.0.0.1, each its own root; made once. */
export function keyPairs(): NonNullable<typeof issued> {
  return issued ??= { good: issue(), foreign: issue() };
}

function issue(): KeyPair {
  const directory = mkdtempSync(join(tmpdir(), "ambit-plugin-pki-"));
  const [key, cert] = [join(directory, "key"), join(directory, "cert")];
  const subject = ["-subj", "/CN=kube-apiserver", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  try {
    execFileSync("openssl", [...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
    return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export interface ApiAnswer {
  readonly status?: number;
  readonly body: unknown;
}

/** Answers GETs of the paths it is given; everything else is not found. */
export class ApiStandIn {
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[] = [];
  connections = 0;
  readonly #server;
  readonly #sockets = new Set<Socket>();

  private constructor(readonly objects: Record<string, ApiAnswer>, keys: KeyPair) {
    this.#server = createTlsServer(keys, (request, response) => {
      const { url: path = "", headers } = request;
      this.requests.push({ path, authorization: headers.authorization });
      const { status = 200, body } = this.objects[path] ??
        { status: 404, body: { kind: "Status", message: "not found", code: 404 } };
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
    this.#server.on("connection", (socket: Socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("tlsClientError", () => {});
  }

  static async start(objects: Record<string, ApiAnswer>, keys = keyPairs().good): Promise<ApiStandIn> {
    const api = new ApiStandIn(objects, keys);
    await new Promise<void>((resolve) => api.#server.listen(0, "127.0.0.1", resolve));
    return api;
  }

  /** Writes the kubeconfig for this server; it trusts the good certificate, whichever the server has. */
  writeKubeconfig(runDir: string, token = "the-token"): void {
    const { port } = this.#server.address() as AddressInfo;
    const text = kubeconfigText({ server: `https://127.0.0.1:${port}`, ca: keyPairs().good.cert, token });
    writeFileSync(join(runDir, KUBECONFIG_NAME), text, { mode: 0o600 });
  }

  stop(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** A pod and its namespace, as the API server shows them. */
export function shopObjects(
  labels: Record<string, string> = {},
  pod: Record<string, unknown> = {},
): Record<string, ApiAnswer> {
  return {
    "/api/v1/namespaces/shop/pods/web-1": {
      body: { kind: "Pod", apiVersion: "v1", metadata: { name: "web-1", namespace: "shop" }, ...pod },
    },
    "/api/v1/namespaces/shop": { body: { kind: "Namespace", apiVersion: "v1", metadata: { name: "shop", labels } } },
  };
}
