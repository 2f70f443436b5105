/**
 * What was made out of the requests that a pod gets, which ask for the same few addresses over and over. An outcome is good for as long as
 * the answers about the mesh and the pod's own record that it was made of are the very same. Policies are not part of it: they are asked
 * for each connection.
 */
import {
  type Authority,
  describeAuthority,
  type Inbound,
  type InboundRequest,
  inboundService,
  type MeshStore,
  parseAuthority,
  resolveInbound,
  type Service,
  type Workload,
} from "../mesh/mod.ts";
import { destinationQuery } from "./inbound_request.ts";
import { meshKey } from "./mesh_cache.ts";
import type { MeshQuery } from "./messages.ts";

/** Each may hold answers about the mesh that are out of date. Above this all are forgotten: what is in use is back at once. */
const MAX_ROUTES = 256;

/** A host name and a port; a longer one is refused anyway. */
const MAX_AUTHORITY_CHARACTERS = 260;

/** A question to the mesh cache, with the key of its answer. */
export interface MeshQuestion {
  readonly query: MeshQuery;
  readonly key: string;
}

function question(query: MeshQuery): MeshQuestion {
  return { query, key: meshKey(query) };
}

export class InboundRoute {
  readonly authority: Authority;
  readonly described: string;
  /** What must be known to judge it; undefined when it is the pod's own address. */
  readonly asks: MeshQuestion | undefined;
  readonly localIp: string;
  readonly workload: Workload;
  #view: MeshStore | undefined;
  #outcome: Inbound | undefined;
  #own: MeshStore | undefined;
  #host: string | undefined;
  #port = -1;
  #service: Service | undefined;

  constructor(text: string, network: string, localIp: string, workload: Workload) {
    this.authority = parseAuthority(text);
    this.described = describeAuthority(this.authority);
    this.localIp = localIp;
    this.workload = workload;
    const query = destinationQuery(this.authority, localIp, network, workload);
    this.asks = query === undefined ? undefined : question(query);
  }

  resolve(view: MeshStore, request: Omit<InboundRequest, "authority" | "localIp" | "workload">): Inbound {
    if (this.#outcome === undefined || this.#view !== view) {
      const { authority, localIp, workload } = this;
      this.#outcome = resolveInbound(view, { ...request, authority, localIp, workload });
      this.#view = view;
    }
    return this.#outcome;
  }

  /** The service that the connection is for; `host` is what the client's proxy calls it. */
  service(own: MeshStore, port: number, host: string | undefined): Service | undefined {
    if (this.#own !== own || this.#port !== port || this.#host !== host) {
      this.#service = inboundService(own, this.workload, port, host);
      this.#own = own;
      this.#port = port;
      this.#host = host;
    }
    return this.#service;
  }
}

export class InboundRoutes {
  readonly #network: string;
  readonly #routes = new Map<string, InboundRoute>();
  readonly #clients = new Map<string, MeshQuestion>();
  #own: MeshQuestion | undefined;

  constructor(network: string) {
    this.#network = network;
  }

  /** For a request to `authority` at `localIp` of the pod that `workload` is the record of. */
  to(authority: string, localIp: string, workload: Workload): InboundRoute {
    const known = this.#routes.get(authority);
    if (known !== undefined && known.localIp === localIp && known.workload === workload) return known;
    const route = new InboundRoute(authority, this.#network, localIp, workload);
    if (authority.length > MAX_AUTHORITY_CHARACTERS) return route;
    if (this.#routes.size >= MAX_ROUTES) this.#routes.clear();
    this.#routes.set(authority, route);
    return route;
  }

  /** Who the client is. */
  client(ip: string): MeshQuestion {
    let known = this.#clients.get(ip);
    if (known !== undefined) return known;
    if (this.#clients.size >= MAX_ROUTES) this.#clients.clear();
    known = question({ kind: "address", network: this.#network, ip, namespace: undefined });
    this.#clients.set(ip, known);
    return known;
  }

  /** What the pod's services are. */
  own(workload: Workload): MeshQuestion {
    const { query } = this.#own ?? {};
    if (query?.kind !== "workload" || query.uid !== workload.uid) {
      this.#own = question({ kind: "workload", uid: workload.uid });
    }
    return this.#own as MeshQuestion;
  }

  /** The pod's record changed. */
  forget(): void {
    this.#routes.clear();
  }
}
