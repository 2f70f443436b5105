/**
 * One stream of delta xDS to istiod: a session of its own with the roots and the token of this moment, and the protocol's messages
 * as plain values.
 */
import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { setImmediate } from "node:timers";
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  NodeSchema,
} from "../../gen/xds/delta_discovery_pb.ts";
import {
  callHeaders,
  type ConnectionLimits,
  createTransport,
  type IstiodEndpoint,
  MAX_MESSAGE_BYTES,
  openSession,
  readTrustRoots,
  toIstiodError,
} from "../istiod/mod.ts";
import type { DeltaRequest } from "./protocol.ts";
import { ResponseSplitter } from "./response_splitter.ts";

export interface XdsStream {
  /** Queues a request. Nothing happens when the stream is over. */
  send(request: DeltaRequest): void;
  /** To be iterated once. Ends when the server does, in order; throws IstiodError otherwise. */
  readonly responses: AsyncIterable<XdsResponse>;
  /** Ends stream and connection; `responses` then throws or ends. */
  close(): void;
}

export interface XdsResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: readonly Uint8Array[];
  readonly removed: readonly string[];
  /** Who answered, in istiod's words; "" when it did not say. */
  readonly controlPlane: string;
}

/** The main thread answers probes and whatever else comes by events at least this often while it receives. */
const TURN_MS = 2;
/** And this often what workers ask. */
const ATTEND_MS = 0.5;
/** google.rpc.Code INVALID_ARGUMENT: what a NACK says. */
const INVALID_ARGUMENT = 3;

export interface XdsStreamOptions {
  readonly limits?: ConnectionLimits;
  /** Called in the middle of receiving, at most every half millisecond: others may be waiting for this thread, and have no way to be heard. */
  readonly attend?: () => void;
}

/** Rejects with IstiodError when there is no connection. `signal` gives the attempt up. */
export async function openXdsStream(
  endpoint: IstiodEndpoint,
  signal: AbortSignal,
  { limits, attend = () => {} }: XdsStreamOptions = {},
): Promise<XdsStream> {
  const header = callHeaders(endpoint);
  const session = await openSession(endpoint, readTrustRoots(endpoint.root), limits, signal);
  const abort = new AbortController();
  const outgoing = new RequestQueue();
  const transport = createTransport(endpoint.address, session, {
    transform: (body) => splitResponses(body, attend),
  });
  const method = AggregatedDiscoveryService.method.deltaAggregatedResources;
  return {
    send: (request) => outgoing.push(toMessage(request)),
    close() {
      outgoing.end();
      abort.abort();
      session.close();
    },
    responses: {
      async *[Symbol.asyncIterator]() {
        try {
          const { message } = await transport.stream(method, abort.signal, 0, header, outgoing);
          yield* joinResponses(message);
        } catch (cause) {
          throw toIstiodError(cause, endpoint.address);
        } finally {
          outgoing.end();
          session.close();
        }
      },
    },
  };
}

/** Requests that wait to be sent, as connect wants them. */
class RequestQueue implements AsyncIterable<Message> {
  #messages: Message[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  push(message: Message): void {
    if (this.#ended) return;
    this.#messages.push(message);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message> {
    for (;;) {
      const messages = this.#messages;
      this.#messages = [];
      yield* messages;
      if (this.#ended) return;
      if (this.#messages.length === 0) await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

type Message = MessageInitShape<typeof DeltaDiscoveryRequestSchema>;

function toMessage(request: DeltaRequest): Message {
  const { typeUrl, node, nonce, error } = request;
  return {
    typeUrl,
    ...(node === undefined ? {} : {
      node: create(NodeSchema, {
        id: node.id,
        cluster: node.cluster ?? "",
        metadata: node.metadata as JsonObject,
        ...(node.locality === undefined ? {} : { locality: node.locality }),
      }),
    }),
    resourceNamesSubscribe: [...request.subscribe ?? []],
    resourceNamesUnsubscribe: [...request.unsubscribe ?? []],
    initialResourceVersions: Object.fromEntries(request.initialVersions ?? []),
    responseNonce: nonce ?? "",
    ...(error === undefined ? {} : { errorDetail: { code: INVALID_ARGUMENT, message: error } }),
  };
}

async function* splitResponses(body: AsyncIterable<Uint8Array>, attend: () => void): AsyncGenerator<Uint8Array> {
  const splitter = new ResponseSplitter(MAX_MESSAGE_BYTES);
  let turnMs = performance.now();
  let attendedMs = turnMs;
  for await (const chunk of body) {
    yield* splitter.push(chunk);
    // Deno's event loop has been seen to pass on what workers posted only 10 to 35 ms later while it received.
    if (performance.now() - attendedMs >= ATTEND_MS) {
      attend();
      attendedMs = performance.now();
    }
    // What has been received already is read without going back to the event loop, on Bun for tens of milliseconds.
    if (performance.now() - turnMs < TURN_MS) continue;
    await new Promise((resolve) => setImmediate(resolve));
    turnMs = performance.now();
  }
  if (splitter.partial) throw new ConnectError("protocol error: the stream ended in the middle of a message");
}

/** Puts the slices of a response together again; their bytes stay where they are. */
async function* joinResponses(slices: AsyncIterable<DeltaDiscoveryResponse>): AsyncGenerator<XdsResponse> {
  let next = emptyResponse();
  for await (const slice of slices) {
    if (slice.typeUrl !== "") next.typeUrl = slice.typeUrl;
    if (slice.nonce !== "") next.nonce = slice.nonce;
    if (slice.controlPlane !== undefined) next.controlPlane = slice.controlPlane.identifier;
    for (const resource of slice.resources) next.resources.push(resource);
    for (const name of slice.removedResources) next.removed.push(name);
    if (!slice.endOfResponse) continue;
    yield next;
    next = emptyResponse();
  }
}

function emptyResponse() {
  return { typeUrl: "", nonce: "", controlPlane: "", resources: [] as Uint8Array[], removed: [] as string[] };
}
