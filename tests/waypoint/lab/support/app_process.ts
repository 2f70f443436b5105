/** The test's end of one application: tells it what to call, and gets what came of it. */
import { fileURLToPath } from "node:url";
import { tool } from "../../../../scripts/support/tools.ts";
import type { LabPod } from "../../../istiod/support/pod.ts";
import type { Echo, GrpcAnswer, GrpcOrder, HttpAnswer, HttpOrder, LoadAnswer, LoadOrder } from "../apps/protocol.ts";
import { OrderChannel } from "./order_channel.ts";

type Without<T> = Omit<T, "kind" | "url" | "target">;

const DENO = [tool("deno"), "run", "--quiet", "--no-prompt", "--no-check", "-A"];

function program(name: string): string {
  return fileURLToPath(new URL(`../apps/${name}`, import.meta.url));
}

export class AppProcess {
  readonly pod: LabPod;
  readonly #http: OrderChannel;
  readonly #grpc: OrderChannel | undefined;

  private constructor(pod: LabPod, http: OrderChannel, grpc: OrderChannel | undefined) {
    this.pod = pod;
    this.#http = http;
    this.#grpc = grpc;
  }

  /** Resolves when it serves. `more`: certificate and key for its HTTPS, or another program of apps/. */
  static async start(
    pod: LabPod,
    more: { readonly args?: readonly string[]; readonly program?: string } = {},
  ): Promise<AppProcess> {
    const main = OrderChannel.start(pod, [...DENO, program(more.program ?? "app.ts"), pod.name, ...more.args ?? []]);
    const grpc = more.program !== undefined
      ? undefined
      : OrderChannel.start(pod, [tool("bun"), program("grpc_app.ts"), pod.name]);
    return new AppProcess(pod, await main, await grpc);
  }

  /** Of the process that serves HTTP, as the test process sees it. */
  get pid(): number {
    return this.#http.pid;
  }

  /** An HTTP request to `http://…` or `https://…`. Rejects when there is no answer at all. */
  http(url: string, more: Without<HttpOrder> = {}): Promise<HttpAnswer> {
    return this.#http.ask({ kind: "http", url, ...more });
  }

  /** The same, to an application that tells what it got; anything but 200 is a failure. */
  async echo(url: string, more: Without<HttpOrder> = {}): Promise<Echo & { readonly answer: HttpAnswer }> {
    const answer = await this.http(url, more);
    if (answer.status !== 200) throw new Error(`${url}: ${answer.status} ${answer.body}`);
    return { ...JSON.parse(answer.body) as Echo, answer };
  }

  grpc(target: string, more: Without<GrpcOrder>): Promise<GrpcAnswer> {
    return this.#grpc!.ask({ kind: "grpc", target, ...more });
  }

  /** Clients that go on until {@link LoadRun.stop}. */
  async load(url: string, more: Without<LoadOrder>): Promise<LoadRun> {
    return new LoadRun(this.#http, await this.#http.ask<number>({ kind: "load", url, ...more }));
  }

  async webSocket(url: string): Promise<OpenSession> {
    return new OpenSession(this.#http, await this.#http.ask<number>({ kind: "web socket", url }));
  }

  /** A gRPC stream both ways. */
  async chat(target: string, metadata?: Readonly<Record<string, string>>): Promise<OpenSession> {
    const order = metadata === undefined ? {} : { metadata };
    return new OpenSession(this.#grpc!, await this.#grpc!.ask<number>({ kind: "chat", target, ...order }));
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    await Promise.all([this.#http.kill(), this.#grpc?.kill()]);
  }
}

export class OpenSession {
  constructor(readonly channel: OrderChannel, readonly id: number) {}

  talk(text: string): Promise<string> {
    return this.channel.ask({ kind: "talk", session: this.id, text });
  }

  end<T = Readonly<Record<string, unknown>>>(): Promise<T> {
    return this.channel.ask({ kind: "end", session: this.id });
  }
}

export class LoadRun {
  constructor(readonly channel: OrderChannel, readonly id: number) {}

  /** So far. */
  async report(): Promise<LoadAnswer> {
    return JSON.parse(await this.channel.ask<string>({ kind: "talk", session: this.id, text: "" })) as LoadAnswer;
  }

  stop(): Promise<LoadAnswer> {
    return this.channel.ask({ kind: "end", session: this.id });
  }
}
