/**
 * What the main thread has to say or ask, through a worker's clusters: telemetry for a collector, key sets of an issuer. One in the mesh is reached by
 * HBONE, one outside by TLS where its DestinationRule says so, as any upstream is. What is sent was encoded on the main thread.
 */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import { UpstreamCall } from "../filters/upstream_call.ts";
import { first } from "../http/fields.ts";
import type { Timing } from "../http/timing.ts";
import type { ClusterName } from "../spec/mod.ts";
import type { Clusters } from "../upstream/upstream.ts";

export interface CollectorCall {
  readonly cluster: ClusterName;
  /** "get": the body of the answer is what is wanted; only 200 will do. */
  readonly kind: "grpc" | "http" | "get";
  readonly path: string;
  /** "" the service's own name. */
  readonly authority: string;
  /** Names in lower case. */
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  /** With gRPC, framed already. */
  readonly body: Uint8Array;
  /** Default: 10 s. */
  readonly timeoutMs?: number;
}

/** `failure`: "" when it was taken. */
export interface CollectorOutcome {
  readonly failure: string;
  /** Of what was got. */
  readonly body?: Uint8Array;
}

/** A collector that does not answer is tried again with the next batch. */
const TIMEOUT_MS = 10_000;
/** No collector has more to say than that it took, or did not take, what it got. */
const MAX_REPLY_BYTES = 64 * 1024;
const MAX_GOT_BYTES = 1 << 20;

/** There is no client: nothing of a connection is told. */
const NOBODY: ConnectionInfo = {
  authority: "",
  destination: { ip: "0.0.0.0", port: 0 },
  source: { ip: "0.0.0.0", port: 0 },
  peerPrincipal: "",
  localPrincipal: "",
  downstreamPeer: undefined,
  sni: "",
  startedAtMs: 0,
  id: 0,
};

export class CollectorCalls {
  readonly #clusters: Clusters;
  readonly #timing: Timing;
  readonly #done: (id: number, outcome: CollectorOutcome) => void;

  constructor(clusters: Clusters, timing: Timing, done: (id: number, outcome: CollectorOutcome) => void) {
    this.#clusters = clusters;
    this.#timing = timing;
    this.#done = done;
  }

  start(id: number, call: CollectorCall): void {
    const { kind, path, body } = call;
    const cluster = this.#clusters.get(call.cluster);
    if (cluster === undefined) return this.#done(id, { failure: `the cluster ${call.cluster} is not known` });
    const headers = call.headers.flatMap(({ name, value }) => [name, value]);
    if (kind === "grpc") headers.push("content-type", "application/grpc", "te", "trailers");
    else if (kind === "http") headers.push("content-length", String(body.length));
    new UpstreamCall(
      {
        cluster,
        connection: NOBODY,
        head: {
          method: kind === "get" ? "GET" : "POST",
          path,
          authority: call.authority || cluster.spec.service?.host || cluster.name,
          scheme: "http",
          version: kind === "grpc" ? "2" : "1.1",
          headers,
          upgrade: "",
          contentLength: kind === "grpc" ? -1 : body.length,
          expectsContinue: false,
          wireBytes: 0,
        },
        body,
        timeoutMs: call.timeoutMs ?? TIMEOUT_MS,
        maxReplyBytes: kind === "get" ? MAX_GOT_BYTES : MAX_REPLY_BYTES,
      },
      this.#timing,
      (reply, failure) => {
        if (reply === undefined) return this.#done(id, { failure });
        const { status, headers, trailers } = reply;
        if (kind === "get") {
          // Over to another thread: what a reply's body is a part of stays here.
          return this.#done(
            id,
            status === 200 ? { failure: "", body: reply.body.slice() } : { failure: `HTTP ${status}` },
          );
        }
        if (status < 200 || status > 299) return this.#done(id, { failure: `HTTP ${status}` });
        if (kind === "http") return this.#done(id, { failure: "" });
        const code = first(trailers, "grpc-status") ?? first(headers, "grpc-status") ?? "unknown";
        const detail = first(trailers, "grpc-message") ?? first(headers, "grpc-message") ?? "";
        this.#done(id, { failure: code === "0" ? "" : `gRPC status ${code} ${detail}`.trim() });
      },
    ).start();
  }
}
