/** A copy of a request to another cluster, whose answer nobody waits for (waypoint.md 4.2). */
import type { ClientConnection, ClientExchange, FieldList, RequestHead, ResponseReceiver } from "../http/exchange.ts";
import type { MirrorSpec } from "../spec/mod.ts";
import { copyOf } from "../transport/copy.ts";
import type { Cluster, HttpWaiter, Wait } from "../upstream/upstream.ts";
import type { Request } from "./request.ts";

/** A copy that its cluster does not take fast enough is given up: it must not slow the request down. */
const MAX_QUEUED_BYTES = 1 << 20;

export class Mirror implements HttpWaiter {
  readonly #head: RequestHead;
  #wait: Wait | undefined;
  #exchange: ClientExchange | undefined;
  #parts: Uint8Array[] = [];
  #queued = 0;
  #ended: boolean;
  #trailers: FieldList | undefined;
  #over = false;

  constructor(cluster: Cluster, spec: MirrorSpec, head: RequestHead, request: Request) {
    const authority = spec.appendShadowSuffix ? shadowed(head.authority) : head.authority;
    this.#head = { ...head, authority, headers: [...head.headers], upgrade: "" };
    this.#ended = request.body.ended && request.body.total === 0;
    this.#wait = cluster.http(
      {
        connection: request.connection,
        hash: undefined,
        authority,
        tried: [],
        avoidTried: false,
        hostAttempts: 1,
        priorityUpdateFrequency: 0,
      },
      head.version,
      this,
    );
    const sofar = request.body.bytes(request.body.keptBytes);
    if (sofar.length > 0) this.data(sofar, 0, sofar.length, request.body.ended);
  }

  connected(connection: ClientConnection): void {
    this.#wait = undefined;
    if (this.#over) return;
    const isWhole = this.#ended && this.#parts.length === 0 && this.#trailers === undefined;
    this.#exchange = connection.request(this.#head, isWhole, this.#answer);
    if (this.#exchange === undefined) return void (this.#over = true);
    const parts = this.#parts;
    this.#parts = [];
    parts.forEach((part, i) => {
      const isLast = this.#ended && this.#trailers === undefined && i === parts.length - 1;
      this.#exchange?.data(part, 0, part.length, isLast);
    });
    if (this.#trailers !== undefined) this.#exchange.trailers(this.#trailers);
  }

  failed(): void {
    this.#over = true;
    this.#parts = [];
  }

  /** More of the request's body. */
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#over) return;
    if (ended) this.#ended = true;
    if (this.#exchange !== undefined) {
      if (this.#exchange.queued > MAX_QUEUED_BYTES) return this.#giveUp();
      return this.#exchange.data(bytes, start, end, ended);
    }
    this.#queued += end - start;
    if (this.#queued > MAX_QUEUED_BYTES) return this.#giveUp();
    this.#parts.push(copyOf(bytes, start, end));
  }

  trailers(fields: FieldList): void {
    if (this.#over) return;
    this.#ended = true;
    this.#trailers = fields;
    this.#exchange?.trailers(fields);
  }

  /** The client is gone: a copy of half a request is no use to anybody. */
  sourceEnded(): void {
    if (!this.#ended) this.#giveUp();
  }

  #giveUp(): void {
    this.#over = true;
    this.#parts = [];
    this.#wait?.cancel();
    this.#exchange?.reset({ kind: "cancelled", refused: false, detail: "the mirrored request was given up" });
  }

  /** Read to its end, so that the connection can be used again. */
  readonly #answer: ResponseReceiver = {
    informational() {},
    head() {},
    data: (_bytes, start, end) => this.#exchange?.consume(end - start),
    trailers() {},
    writable() {},
    reset: () => void (this.#over = true),
  };
}

function shadowed(authority: string): string {
  const colon = authority.lastIndexOf(":");
  const hasPort = colon > authority.lastIndexOf("]");
  return hasPort ? `${authority.slice(0, colon)}-shadow${authority.slice(colon)}` : `${authority}-shadow`;
}
