/** An authorization service that the test plays, behind the engine's clusters: real sessions carry the check and its answer. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Buffer } from "node:buffer";
import {
  type CheckRequest,
  CheckRequestSchema,
  CheckResponseSchema,
} from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.ts";
import { createExtAuthzFilter, type ExtAuthzDeps } from "../../../src/waypoint/filters/ext_authz.ts";
import type { HttpFilter } from "../../../src/waypoint/engine/request_context.ts";
import type { ExtAuthzSpec, HttpChainSpec } from "../../../src/waypoint/spec/mod.ts";
import { chain, forwardTo, route, type Seen, TestEngine } from "../support/test_engine.ts";

export const GRPC: ExtAuthzSpec = {
  service: {
    kind: "grpc",
    cluster: "authz" as never,
    authority: "authz.demo",
    timeoutMs: 1000,
    allowedHeaders: undefined,
  },
  body: undefined,
  failureAllows: false,
  statusOnError: 403,
  onlyIfPolicy: undefined,
  statPrefix: "",
  includePeerCertificate: false,
  clearRouteCache: false,
};

export type HttpServiceSpec = Extract<ExtAuthzSpec["service"], { readonly kind: "http" }>;

const ANY_CASE = (text: string) => ({ kind: "exact", text, ignoreCase: true }) as const;

export function overHttp(service: Partial<HttpServiceSpec> = {}, spec: Partial<ExtAuthzSpec> = {}): ExtAuthzSpec {
  return {
    ...GRPC,
    service: {
      kind: "http",
      cluster: "authz" as never,
      uri: "http://authz.demo",
      timeoutMs: 500,
      pathPrefix: "/check",
      addToCheck: [{ name: "x-added", value: "100%%" }],
      allowedHeaders: [ANY_CASE("X-Token")],
      toUpstream: [ANY_CASE("x-user")],
      toUpstreamAppend: [ANY_CASE("x-group")],
      toClient: [ANY_CASE("x-why")],
      toClientOnSuccess: [ANY_CASE("x-seen")],
      ...service,
    },
    ...spec,
  };
}

/** Deps of filters that are made before the engine that they run in. */
export interface LateDeps {
  engine: TestEngine | undefined;
  readonly deps: ExtAuthzDeps;
  readonly events: string[];
}

export function lateDeps(): LateDeps {
  const events: string[] = [];
  const late: LateDeps = {
    engine: undefined,
    events,
    deps: {
      get timing() {
        return (late.engine as TestEngine).timing;
      },
      clusters: { get: (name) => late.engine?.clusters.get(name) },
      wallMs: () => 1_700_000_000_000,
      authzCounter: (event, prefix) => void events.push(prefix + event),
    },
  };
  return late;
}

/** An engine whose requests are asked about; the endpoint answers 200. */
export function authorized(
  spec: ExtAuthzSpec,
  options: {
    readonly chain?: HttpChainSpec;
    readonly before?: readonly HttpFilter[];
    readonly downstream?: "1.1" | "2";
    readonly service: (seen: Seen) => void;
  },
): { readonly engine: TestEngine; readonly events: readonly string[] } {
  const late = lateDeps();
  const engine = new TestEngine(options.chain ?? chain([route({ action: forwardTo("b") })]), {
    filters: [...options.before ?? [], createExtAuthzFilter(spec, late.deps)],
    downstream: options.downstream,
    upstream: spec.service.kind === "grpc" ? "2" : "1.1",
  });
  late.engine = engine;
  engine.onWhole = (seen) => {
    if (seen.cluster === "authz") options.service(seen);
    else seen.exchange.respond({ status: 200, headers: ["x-endpoint", seen.cluster] }, true);
  };
  return { engine, events: late.events };
}

export function asked(seen: Seen): CheckRequest {
  return fromBinary(CheckRequestSchema, Buffer.from(seen.body, "latin1").subarray(5));
}

export function reply(seen: Seen, message: MessageInitShape<typeof CheckResponseSchema>): void {
  replyBytes(seen, toBinary(CheckResponseSchema, create(CheckResponseSchema, message)));
}

export function replyBytes(seen: Seen, message: Uint8Array, trailers = ["grpc-status", "0"]): void {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  seen.exchange.respond({ status: 200, headers: ["content-type", "application/grpc"] }, false);
  seen.exchange.data(frame, 0, frame.length, false);
  seen.exchange.trailers(trailers);
}

/** The answer of a service over HTTP. */
export function answerWith(seen: Seen, status: number, headers: string[], body = ""): void {
  const bytes = Buffer.from(body, "utf8");
  if (bytes.length > 0) headers.push("content-length", String(bytes.length));
  seen.exchange.respond({ status, headers }, bytes.length === 0);
  if (bytes.length > 0) seen.exchange.data(bytes, 0, bytes.length, true);
}

/** What the endpoint got. */
export function arrived(engine: TestEngine): Seen | undefined {
  return engine.seen.find(({ cluster }) => cluster !== "authz");
}

export function checks(engine: TestEngine): readonly Seen[] {
  return engine.seen.filter(({ cluster }) => cluster === "authz");
}
