/**
 * A small API server for tests: real HTTPS on a loopback, objects with versions, lists in pages, watches with bookmarks and a history that
 * can be forgotten. What it answers can be replaced request by request, for faults.
 */
import { Buffer } from "node:buffer";
import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { KubeObject } from "../../../src/control/kube/types.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { until } from "./until.ts";

/** Subject alternative name: the address 127.0.0.1. */
const LOOPBACK_NAME = new Uint8Array([0x30, 0x06, 0x87, 0x04, 127, 0, 0, 1]);

export interface Received {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export type Handler = (request: Received, response: ServerResponse, socket: Socket) => void;

interface Event {
  readonly version: number;
  readonly type: string;
  readonly object: KubeObject;
}

export class ApiServer {
  readonly requests: Received[] = [];
  readonly sockets = new Set<Socket>();
  /** Taken one by one, before what the server would answer by itself. */
  readonly faults: Handler[] = [];
  /** Connections so far. */
  connections = 0;
  readonly #objects = new Map<string, KubeObject>();
  #events: Event[] = [];
  #version = 100;
  #oldest = 0;
  readonly #watches = new Set<ServerResponse>();
  readonly #server: Server;

  private constructor(readonly ca: string, key: string, chain: readonly string[]) {
    this.#server = createServer({ key, cert: chain.join("\n") }, (request, response) => {
      const chunks: Uint8Array[] = [];
      request.on("data", (chunk: Uint8Array) => chunks.push(chunk));
      request.on("end", () => this.#answer(request, response, new TextDecoder().decode(Buffer.concat(chunks))));
      response.on("error", () => {});
    });
    this.#server.on("secureConnection", (socket) => {
      this.connections++;
      this.sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.sockets.delete(socket));
    });
  }

  static async start(): Promise<ApiServer> {
    const authority = await TestAuthority.create();
    const { privateKey, chain } = await authority.leaf({ rawNames: LOOPBACK_NAME });
    const server = new ApiServer(authority.pem, privateKey, chain);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get version(): string {
    return String(this.#version);
  }

  get watchCount(): number {
    return this.#watches.size;
  }

  /** Makes or changes an object; another uid makes it another one of the same name. */
  put(name: string, more: Readonly<Record<string, unknown>> = {}, uid = `uid-${name}`): void {
    const known = this.#objects.get(name);
    if (known !== undefined && known.metadata.uid !== uid) this.remove(name);
    const isNew = known === undefined || known.metadata.uid !== uid;
    const metadata = { name, namespace: "default", uid, resourceVersion: String(++this.#version) };
    this.#tell(isNew ? "ADDED" : "MODIFIED", { metadata, ...more });
    this.#objects.set(name, { metadata, ...more });
  }

  remove(name: string): void {
    const object = this.#objects.get(name);
    if (object === undefined) return;
    this.#objects.delete(name);
    this.#tell("DELETED", { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } });
  }

  bookmark(): void {
    this.sendToWatches(
      `${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: this.version } } })}\n`,
    );
  }

  sendToWatches(text: string): void {
    for (const response of this.#watches) response.write(text);
  }

  /** Ends them as the server's timeout does. */
  endWatches(): void {
    for (const response of [...this.#watches]) response.end();
  }

  cutWatches(): void {
    for (const response of [...this.#watches]) response.socket?.destroy();
  }

  /** Nothing before now can be watched any more. */
  compact(): void {
    this.#events = [];
    this.#oldest = this.#version;
  }

  /** Objects by name, as the server has them. */
  state(): Record<string, string> {
    const entries = [...this.#objects].map((
      [name, { metadata }],
    ) => [name, `${metadata.uid}@${metadata.resourceVersion}`]);
    return Object.fromEntries(entries.sort());
  }

  /** As new, for the next test. Connections go. */
  async reset(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await until(() => this.#watches.size === 0, "all watches are gone");
    this.#objects.clear();
    this.compact();
    this.requests.length = this.faults.length = 0;
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #tell(type: string, object: KubeObject): void {
    this.#events.push({ version: this.#version, type, object });
    this.sendToWatches(`${JSON.stringify({ type, object })}\n`);
  }

  #answer(request: IncomingMessage, response: ServerResponse, body: string): void {
    const { pathname, searchParams: query } = new URL(request.url ?? "/", "https://test");
    const received = { method: request.method ?? "", path: pathname, query, headers: request.headers, body };
    this.requests.push(received);
    const fault = this.faults.shift();
    if (fault !== undefined) return fault(received, response, request.socket);
    if (query.get("watch") === "1") this.#watch(query, response);
    else this.#list(query, response);
  }

  #list(query: URLSearchParams, response: ServerResponse): void {
    const limit = Number(query.get("limit") ?? Infinity);
    const token = query.get("continue");
    const [version, from] = token === null ? [this.version, 0] : [token.split("/")[0], Number(token.split("/")[1])];
    if (token !== null && Number(version) < this.#oldest) {
      return sendStatus(response, 410, "Expired", "the continue token is too old");
    }
    const all = [...this.#objects.values()];
    const next = from + limit < all.length ? `${version}/${from + limit}` : "";
    sendJson(response, 200, {
      kind: "List",
      metadata: { resourceVersion: version, continue: next },
      items: all.slice(from, from + limit),
    });
  }

  #watch(query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get("resourceVersion"));
    if (from < this.#oldest) return sendStatus(response, 410, "Expired", `too old resource version: ${from}`);
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    this.#watches.add(response);
    response.on("close", () => this.#watches.delete(response));
    for (const { version, type, object } of this.#events) {
      if (version > from) response.write(`${JSON.stringify({ type, object })}\n`);
    }
  }
}

export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

export function sendStatus(
  response: ServerResponse,
  code: number,
  reason: string,
  message: string,
  headers: Record<string, string> = {},
): void {
  sendJson(response, code, { kind: "Status", apiVersion: "v1", status: "Failure", code, reason, message }, headers);
}

/** A token that says what it is, with a signature that nobody checks. */
export function testToken(claims: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.c2ln`;
}
