/** A route table made ready once: matchers as predicates, changes and rewrites as functions, an index over all of it. */
import type { RequestContext } from "../engine/request_context.ts";
import type { FormatEnvironment } from "../format/commands.ts";
import type { RequestHead } from "../http/exchange.ts";
import { compileHeader, compileQuery, type HeadPredicate } from "../match/head.ts";
import { compileMetadata, type MetadataPredicate } from "../match/metadata.ts";
import { compilePath, withoutQuery } from "../match/path.ts";
import { RouteIndex } from "../match/route_index.ts";
import type { TextPredicate } from "../match/text.ts";
import type {
  ForwardSpec,
  RouteActionSpec,
  RouteSpec,
  RouteTableSpec,
  VirtualHostSpec,
  WeightedClusterSpec,
} from "../spec/mod.ts";
import { compileHeaderChange, type HeaderChange } from "./header_changes.ts";
import { HostIndex } from "./hosts.ts";
import { compileRedirect } from "./redirect.ts";
import { compileRewrite, type PathRewrite } from "./rewrite.ts";
import { compileRetry, type RetryPolicy } from "./retry.ts";

export interface CompiledRoute {
  readonly spec: RouteSpec;
  readonly host: CompiledHost;
  readonly change: HeaderChange;
  readonly action: CompiledAction;
}

export interface CompiledHost {
  readonly spec: VirtualHostSpec;
  readonly change: HeaderChange;
}

export type CompiledAction =
  | { readonly kind: "redirect"; readonly status: number; readonly location: (head: RequestHead) => string }
  | Extract<RouteActionSpec, { readonly kind: "direct" }>
  | CompiledForward;

export interface CompiledForward {
  readonly kind: "forward";
  readonly spec: ForwardSpec;
  readonly clusters: readonly CompiledCluster[];
  readonly totalWeight: number;
  readonly rewrite: PathRewrite | undefined;
  readonly retry: RetryPolicy | undefined;
}

export interface CompiledCluster {
  readonly spec: WeightedClusterSpec;
  readonly change: HeaderChange;
}

interface Candidate {
  readonly route: CompiledRoute;
  readonly path: TextPredicate;
  readonly headers: readonly HeadPredicate[];
  readonly metadata: readonly MetadataPredicate[];
  /** Per million, below all of them. */
  readonly fraction: number | undefined;
  readonly grpcOnly: boolean;
}

/** A number from 0 to below 1. */
export type Random = () => number;

export class CompiledRoutes {
  readonly change: HeaderChange;
  readonly #hosts: HostIndex<{ readonly index: RouteIndex<Candidate> }>;
  readonly #random: Random;

  /** @throws Error for what cannot be compiled, which refuses the chain */
  constructor(spec: RouteTableSpec, environment: FormatEnvironment, random: Random) {
    this.change = compileHeaderChange(spec.headers, environment);
    this.#random = random;
    this.#hosts = new HostIndex(spec.hosts.map((host) => {
      const compiled: CompiledHost = { spec: host, change: compileHeaderChange(host.headers, environment) };
      const candidates = host.routes.map((route) => compileCandidate(route, compiled, environment));
      const index = new RouteIndex(candidates, ({ route }) => route.spec.path);
      return { domains: host.domains, host: { index } };
    }));
  }

  /** The first route that matches; undefined for none. */
  find(context: Pick<RequestContext, "head" | "metadata">, isGrpc: boolean): CompiledRoute | undefined {
    const { head, metadata } = context;
    const host = this.#hosts.find(head.authority);
    if (host === undefined) return undefined;
    const path = withoutQuery(head.path);
    return host.index.find(path, (candidate) => {
      if (!candidate.path(path) || (candidate.grpcOnly && !isGrpc)) return false;
      for (const test of candidate.headers) if (!test(head)) return false;
      for (const test of candidate.metadata) if (!test(metadata)) return false;
      return candidate.fraction === undefined || this.#random() * 1_000_000 < candidate.fraction;
    })?.route;
  }
}

function compileCandidate(spec: RouteSpec, host: CompiledHost, environment: FormatEnvironment): Candidate {
  return {
    route: {
      spec,
      host,
      change: compileHeaderChange(spec.change, environment),
      action: compileAction(spec, environment),
    },
    path: compilePath(spec.path),
    headers: [...spec.headers.map(compileHeader), ...spec.query.map(compileQuery)],
    metadata: spec.metadata.map(compileMetadata),
    fraction: spec.fraction >= 1_000_000 ? undefined : spec.fraction,
    grpcOnly: spec.grpcOnly,
  };
}

function compileAction(route: RouteSpec, environment: FormatEnvironment): CompiledAction {
  const { action } = route;
  switch (action.kind) {
    case "direct":
      return action;
    case "redirect":
      return { kind: "redirect", status: action.code, location: compileRedirect(action, route.path) };
    case "forward": {
      const clusters = action.clusters.filter(({ weight }) => weight > 0);
      return {
        kind: "forward",
        spec: action,
        clusters: clusters.map((spec) => ({ spec, change: compileHeaderChange(spec.change, environment) })),
        totalWeight: clusters.reduce((sum, { weight }) => sum + weight, 0),
        rewrite: compileRewrite(action, route.path),
        retry: action.retry && compileRetry(action.retry),
      };
    }
  }
}
