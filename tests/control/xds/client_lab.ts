/** An xDS client with the test's own streams, sink and time. */
import { IstiodError } from "../../../src/control/istiod/mod.ts";
import { createXdsClient, type XdsClient } from "../../../src/control/xds/client.ts";
import type { DeltaRequest, Subscription } from "../../../src/control/xds/protocol.ts";
import type { Rejection, XdsPush } from "../../../src/control/xds/push.ts";
import type { XdsResponse, XdsStream } from "../../../src/control/xds/stream.ts";
import { Inbox } from "../istiod/fake_istiod.ts";

export const ADDRESS = "type.googleapis.com/istio.workload.Address";
export const POLICY = "type.googleapis.com/istio.security.Authorization";
const WILDCARD: Subscription[] = [{ typeUrl: ADDRESS, mode: "wildcard" }, { typeUrl: POLICY, mode: "wildcard" }];
export const ON_DEMAND: Subscription[] = [{ typeUrl: ADDRESS, mode: "on-demand" }, {
  typeUrl: POLICY,
  mode: "wildcard",
}];

/** Timers that fire when the test says so. */
export class Clock {
  now = 0;
  #timers: { at: number; task: () => void }[] = [];

  readonly schedule = (task: () => void, delayMs: number) => {
    const timer = { at: this.now + delayMs, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  get delays(): number[] {
    return this.#timers.map(({ at }) => at - this.now).sort((a, b) => a - b);
  }

  advance(ms: number): void {
    this.now += ms;
    for (const timer of this.#timers.filter(({ at }) => at <= this.now)) {
      this.#timers = this.#timers.filter((other) => other !== timer);
      timer.task();
    }
  }
}

/** The test's end of a stream. */
export class Stream implements XdsStream {
  readonly sent = new Inbox<DeltaRequest>();
  readonly #incoming = new Inbox<XdsResponse | Error | undefined>();
  closed = false;

  send(request: DeltaRequest): void {
    this.sent.put(request);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#incoming.put(new IstiodError("stream", "closed by the client"));
  }

  push(response: Partial<XdsResponse>): void {
    const nothing = { typeUrl: ADDRESS, nonce: "", resources: [], removed: [], controlPlane: "" };
    this.#incoming.put({ ...nothing, ...response });
  }

  end(error?: Error): void {
    this.#incoming.put(error);
  }

  readonly responses: AsyncIterable<XdsResponse> = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        const next = await this.#incoming.take();
        if (next instanceof Error) throw next;
        return next === undefined ? { done: true, value: undefined } : { done: false, value: next };
      },
    }),
  };
}

/** One push at the sink, to be finished by the test. */
export interface Applying {
  readonly push: XdsPush;
  readonly accepted: (name: string, version: string) => void;
  readonly finish: (rejections?: Rejection[]) => void;
  readonly crash: (error: Error) => void;
}

export class Lab {
  readonly clock = new Clock();
  readonly opened = new Inbox<Stream>();
  readonly applying = new Inbox<Applying>();
  readonly terminations: string[] = [];
  readonly reasons: string[] = [];
  readonly logged: string[] = [];
  readonly client: XdsClient;
  synced = 0;
  opens = 0;
  /** What the next opening fails with. */
  refuse: Error | undefined;

  constructor(subscriptions: readonly Subscription[] = WILDCARD) {
    this.client = createXdsClient({
      address: "https://istiod:15012",
      subscriptions,
      node: { id: "node", metadata: {} },
      open: () => {
        this.opens++;
        if (this.refuse !== undefined) return Promise.reject(this.refuse);
        const stream = new Stream();
        this.opened.put(stream);
        return Promise.resolve(stream);
      },
      sink: {
        apply: (push, accepted) =>
          new Promise((finish, crash) => {
            this.applying.put({ push, accepted, finish: (rejections = []) => finish(rejections), crash });
          }),
      },
      log: { enabled: () => true, log: (level, _target, message) => this.logged.push(`${level} ${message}`) },
      metrics: {
        connectionTerminated: (reason) => this.terminations.push(reason),
        message: (url, bytes) => this.logged.push(`message ${url.split(".").at(-1)} ${bytes}`),
        rejected: () => {},
        setConnected: () => {},
        applied: () => {},
      },
      limits: { reached: (limit) => this.logged.push(`limit ${limit}`) },
      synced: () => this.synced++,
      waiting: (reason) => this.reasons.push(reason),
      schedule: this.clock.schedule,
      nowMs: () => this.clock.now,
      random: () => 1,
    });
  }

  /** The next stream, after its first requests. */
  async stream(requests = 2): Promise<{ stream: Stream; first: DeltaRequest[] }> {
    const stream = await this.opened.take();
    const first: DeltaRequest[] = [];
    for (let i = 0; i < requests; i++) first.push(await stream.sent.take());
    return { stream, first };
  }
}

/** Lets every promise that can settle do so. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

const text = new TextEncoder();

/** An encoded Resource with a name and aliases only. */
export function resource(name: string, ...aliases: string[]): Uint8Array {
  const field = (number: number, value: string) => [number << 3 | 2, value.length, ...text.encode(value)];
  return Uint8Array.from([...field(3, name), ...aliases.flatMap((alias) => field(4, alias))]);
}
