/** Delta xDS from istiod. */
export { createXdsClient } from "./client.ts";
export type { XdsClient, XdsClientOptions } from "./client.ts";
export { describeNode } from "./node.ts";
export type { NodeInfo, Subscription } from "./protocol.ts";
export type { Accepted, Rejection, XdsPush, XdsSink } from "./push.ts";
export { openResource } from "./resource.ts";
export type { OpenedResource } from "./resource.ts";
export { openXdsStream } from "./stream.ts";
export type { XdsResponse, XdsStream } from "./stream.ts";
export type { DemandOutcome } from "./waiters.ts";
