/** What the engine is given: time, chance, upstreams, and where its facts go. Sans runtime, so that all of it runs in a test. */
import type { HttpServerOwner } from "../http/http1_server.ts";
import type { Timing } from "../http/timing.ts";
import type { Clusters } from "../upstream/upstream.ts";
import type { FormatEnvironment } from "../format/commands.ts";
import type { RequestContext } from "./request_context.ts";

export interface EngineServices {
  readonly timing: Timing;
  readonly clusters: Clusters;
  readonly formats: FormatEnvironment;
  /** From 0 to below 1. */
  random(): number;
  /** A fresh request id. */
  uuid(): string;
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** A request is over: logs, metrics and spans are made of it. */
  finished(context: RequestContext): void;
}

export type { HttpServerOwner };
