/** A request that went through the engine, as formats see it. */
import type { RequestContext } from "../../../src/waypoint/engine/request_context.ts";
import type { FormatEnvironment } from "../../../src/waypoint/format/environment.ts";
import type { FormatFacts } from "../../../src/waypoint/format/facts.ts";
import type { RequestHead } from "../../../src/waypoint/http/exchange.ts";
import type { WorkloadSpec } from "../../../src/waypoint/spec/mod.ts";
import { requestFormatFacts } from "../../../src/waypoint/telemetry/request_facts.ts";
import { chain, forwardTo, route, TestEngine } from "../support/test_engine.ts";

export const CLIENT: WorkloadSpec = {
  uid: "Kubernetes//Pod/a/client-1",
  addresses: ["10.0.1.5"],
  name: "client-1",
  namespace: "a",
  workloadName: "client",
  workloadType: "deployment",
  canonicalName: "client-app",
  canonicalRevision: "v1",
  clusterId: "Kubernetes",
  identity: "spiffe://cluster.local/ns/a/sa/client",
  region: "r1",
  zone: "z1",
};

export const SERVER: WorkloadSpec = {
  ...CLIENT,
  uid: "Kubernetes//Pod/demo/b-1",
  addresses: ["10.0.3.1"],
  name: "b-1",
  namespace: "demo",
  workloadName: "b",
  canonicalName: "b-app",
  canonicalRevision: "v2",
  identity: "spiffe://cluster.local/ns/demo/sa/b",
};

export const ENVIRONMENT: FormatEnvironment = {
  hostname: "waypoint-1",
  env: (name) => name === "COLOR" ? "blue" : undefined,
  cel: () => undefined,
  peers: (ip) => ip === "10.0.3.1" ? SERVER : ip === "10.0.1.5" ? CLIENT : undefined,
  traceId: () => "4bf92f3577b34da6a3ce929d0e0e4736",
};

/** `10.0.1.5` asks for `/a?b=c` with a body, and is answered 201 after 12 ms. */
export function finishedRequest(head: Partial<RequestHead> = {}): RequestContext {
  const engine = new TestEngine(chain([route({ name: "default", action: forwardTo("outbound|80||b.demo") })]));
  engine.onRequest = () => void (engine.timing.nowMs += 12);
  engine.request({
    method: "POST",
    path: "/a?b=c",
    headers: ["user-agent", "curl/8", "x-forwarded-for", "10.9.9.9", ...head.headers ?? []],
    ...Object.fromEntries(Object.entries(head).filter(([name]) => name !== "headers")),
  }, "hello");
  engine.answer(engine.seen[0], 201, "world!", ["x-b", "2", "content-type", "text/plain"]);
  const [context] = engine.finished;
  return Object.assign(context, { connection: { ...context.connection, downstreamPeer: CLIENT } });
}

export function factsOf(context: RequestContext, changes: Partial<FormatFacts> = {}): FormatFacts {
  return { ...requestFormatFacts(context, 2000), ...changes };
}
