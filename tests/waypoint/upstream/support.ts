/** Clusters on streams in memory, with a clock, chance and names of the test's own. */
import { BufferPool } from "../../../src/net/buffer_pool.ts";
import type { RequestHead, ServerExchange } from "../../../src/waypoint/http/exchange.ts";
import { Http1Server } from "../../../src/waypoint/http/http1_server.ts";
import { Http2Server } from "../../../src/waypoint/http/http2_server.ts";
import type {
  ClusterName,
  ClusterSpec,
  EndpointSpec,
  EndpointsSpec,
  LimitsSpec,
} from "../../../src/waypoint/spec/mod.ts";
import type { UpstreamCluster } from "../../../src/waypoint/upstream/cluster.ts";
import { type ClusterSet, type ClustersOptions, createClusters } from "../../../src/waypoint/upstream/clusters.ts";
import type { DialedStream, Dialer, DialRequest, DialWaiter } from "../../../src/waypoint/upstream/dialer.ts";
import type { DnsAnswer, DnsFamily, Resolver } from "../../../src/waypoint/upstream/resolver.ts";
import type {
  HttpWaiter,
  PickRequest,
  StreamWaiter,
  UpstreamFailure,
  UpstreamHost,
  Wait,
} from "../../../src/waypoint/upstream/upstream.ts";
import type { ByteStream } from "../../../src/waypoint/transport/byte_stream.ts";
import { MemoryStream, run, TestTiming } from "../support/memory_stream.ts";
import { Answer, INFO, LIMITS } from "../support/test_engine.ts";

export const UNLIMITED: LimitsSpec = {
  maxConnections: Infinity,
  maxPending: Infinity,
  maxRequests: Infinity,
  maxRetries: Infinity,
  retryBudget: undefined,
  maxRequestsPerConnection: 0,
  idleTimeoutMs: 3_600_000,
  maxConnectionMs: 0,
  maxConcurrentStreams: 2 ** 31 - 1,
};

export function clusterSpec(spec: Partial<ClusterSpec> = {}): ClusterSpec {
  const name = spec.name ?? "c" as ClusterName;
  return {
    name,
    statName: name,
    discovery: { kind: "eds", name },
    balancing: {
      policy: { kind: "least request", choices: 2, slowStart: undefined },
      panicPercent: 0,
      localityWeighted: false,
    },
    connectTimeoutMs: 10_000,
    limits: UNLIMITED,
    outliers: undefined,
    protocol: { kind: "http1", http2KeepaliveMs: 0, preserveHeaderCase: false },
    transport: { kind: "raw" },
    transportByTag: [],
    service: undefined,
    source: "",
    keepalive: undefined,
    ...spec,
  };
}

export function endpoint(id: string, spec: Partial<EndpointSpec> = {}): EndpointSpec {
  const [host, port] = id.split(":");
  return {
    id,
    reach: { kind: "direct", host, port: Number(port ?? 80), others: [] },
    health: "healthy",
    weight: 1,
    tag: "plain",
    workload: "",
    ...spec,
  };
}

export function hbone(id: string, spec: Partial<EndpointSpec> = {}): EndpointSpec {
  return endpoint(id, { reach: { kind: "hbone", target: id, via: undefined }, tag: "tunnel", ...spec });
}

export function endpoints(list: readonly EndpointSpec[], name = "c"): EndpointsSpec {
  return { name, overprovisioning: 140, localities: [locality(list)] };
}

export function locality(
  list: readonly EndpointSpec[],
  { priority = 0, weight = 0, region = "r" } = {},
): EndpointsSpec["localities"][number] {
  return { region, zone: "", subzone: "", priority, weight, endpoints: list };
}

export const PICK: PickRequest = {
  connection: INFO,
  hash: undefined,
  authority: "echo.demo:80",
  tried: [],
  avoidTried: false,
  hostAttempts: 5,
  priorityUpdateFrequency: 0,
};

export class DialedMemory extends MemoryStream implements DialedStream {
  whenOver: (() => void) | undefined;
  #told = false;
  override setSink(sink: Parameters<MemoryStream["setSink"]>[0]): void {
    super.setSink({
      data: (bytes, start, end, ended) => {
        sink.data(bytes, start, end, ended);
        this.tell();
      },
      writable: () => sink.writable(),
      broken: (cause) => {
        sink.broken(cause);
        this.tell();
      },
    });
  }
  override end(): void {
    super.end();
    this.tell();
  }
  override reset(): void {
    super.reset();
    this.tell();
  }
  tell(): void {
    if (!this.closed || this.#told) return;
    this.#told = true;
    this.whenOver?.();
  }
}

/** One dial, to be answered by the test. */
export class TestDial {
  cancelled = false;
  done = false;
  readonly near = new DialedMemory();
  readonly far = new MemoryStream();
  constructor(readonly request: DialRequest, readonly waiter: DialWaiter) {
    this.near.other = this.far;
    this.far.other = this.near;
  }
  get host(): string {
    const { reach } = this.request;
    return reach.kind === "direct" ? `${reach.host}:${reach.port}` : reach.target;
  }
  accept(): void {
    this.done = true;
    this.waiter.dialed(this.near, "10.0.2.7:50000");
  }
  fail(failure: Partial<UpstreamFailure> = {}): void {
    this.done = true;
    this.waiter.dialFailed({
      flag: "UF",
      reason: "remote connection failure",
      detail: `${this.host}: connection refused`,
      safeToRetry: true,
      ...failure,
    });
  }
}

export class TestDialer implements Dialer {
  readonly dials: TestDial[] = [];
  /** Answers at once. */
  onDial: ((dial: TestDial) => void) | undefined;
  dial(request: DialRequest, waiter: DialWaiter): Wait {
    const dial = new TestDial(request, waiter);
    this.dials.push(dial);
    this.onDial?.(dial);
    return { cancel: () => void (dial.cancelled = true) };
  }
}

export class TestResolver implements Resolver {
  readonly questions: { host: string; family: DnsFamily; answer(answer: DnsAnswer): void; cancelled: boolean }[] = [];
  resolve(host: string, family: DnsFamily, answered: (answer: DnsAnswer) => void): Wait {
    const question = { host, family, answer: answered, cancelled: false };
    this.questions.push(question);
    return { cancel: () => void (question.cancelled = true) };
  }
  /** Answers the oldest question that waits. */
  answer(ips: readonly string[] | string, ttlSeconds = 30): void {
    const question = this.questions.shift();
    question?.answer(
      typeof ips === "string" ? { failure: ips } : { addresses: ips.map((ip) => ({ ip, ttlSeconds })) },
    );
  }
}

/** A request of the test at an HTTP cluster. */
export class TestRequest implements HttpWaiter {
  readonly answer = new Answer();
  failure: UpstreamFailure | undefined;
  failedHost: UpstreamHost | undefined;
  host: UpstreamHost | undefined;
  wait: Wait | undefined;
  constructor(readonly head: RequestHead) {}
  connected(connection: Parameters<HttpWaiter["connected"]>[0], host: UpstreamHost): void {
    this.host = host;
    this.answer.exchange = connection.request(this.head, true, this.answer);
  }
  failed(failure: UpstreamFailure, host: UpstreamHost | undefined): void {
    this.failure = failure;
    this.failedHost = host;
  }
}

export class TestStream implements StreamWaiter {
  stream: ByteStream | undefined;
  host: UpstreamHost | undefined;
  failure: UpstreamFailure | undefined;
  connected(stream: ByteStream, host: UpstreamHost): void {
    this.stream = stream;
    this.host = host;
    stream.setSink({ data() {}, writable() {}, broken() {} });
  }
  failed(failure: UpstreamFailure): void {
    this.failure = failure;
  }
}

export function head(path = "/"): RequestHead {
  return {
    method: "GET",
    path,
    authority: "echo.demo",
    scheme: "http",
    version: "1.1",
    headers: [],
    upgrade: "",
    contentLength: 0,
    expectsContinue: false,
    wireBytes: 0,
  };
}

/** Endpoints answer when the test says so. */
export class TestUpstream {
  readonly timing = new TestTiming();
  readonly dialer = new TestDialer();
  readonly resolver = new TestResolver();
  readonly clusters: ClusterSet;
  readonly arrived: ServerExchange[] = [];
  /** Endpoints answer 200 at once. */
  answers = true;
  #seed = 1;
  readonly #streams: MemoryStream[] = [];

  constructor(options: Partial<ClustersOptions> = {}) {
    this.clusters = createClusters({
      timing: this.timing,
      dialer: this.dialer,
      resolver: this.resolver,
      buffers: new BufferPool(),
      random: () => this.random(),
      ...options,
    });
  }

  /** The same sequence in each test (a linear congruential generator). */
  random(): number {
    this.#seed = (Math.imul(this.#seed, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#seed / 2 ** 32;
  }

  cluster(spec: Partial<ClusterSpec> = {}, list?: EndpointsSpec | readonly EndpointSpec[]): UpstreamCluster {
    const full = clusterSpec(spec);
    const given = list === undefined ? undefined : Array.isArray(list) ? endpoints(list) : list as EndpointsSpec;
    this.clusters.apply({ clusters: [full], ...(given === undefined ? {} : { endpoints: [given] }) });
    return this.clusters.get(full.name) as UpstreamCluster;
  }

  request(
    cluster: UpstreamCluster,
    pick: Partial<PickRequest> = {},
    version: "1.1" | "2" = "1.1",
    path = "/",
  ): TestRequest {
    const request = new TestRequest(head(path));
    request.wait = cluster.http({ ...PICK, ...pick }, version, request);
    return request;
  }

  /** An endpoint behind each dial, by HTTP of this version. */
  serve(version: "1.1" | "2" = "1.1"): void {
    this.dialer.onDial = (dial) => this.accept(dial, version);
  }

  accept(dial: TestDial, version: "1.1" | "2" = "1.1"): void {
    this.#streams.push(dial.near, dial.far);
    const owner = {
      request: (exchange: ServerExchange) => {
        this.arrived.push(exchange);
        if (this.answers) exchange.respond({ status: 200, headers: [] }, true);
      },
      refused() {},
      closed() {},
    };
    const server = {
      limits: LIMITS,
      serverName: "x",
      idleTimeoutMs: 0,
      headersTimeoutMs: 0,
      upgrades: new Set<string>(),
    };
    if (version === "1.1") new Http1Server(dial.far, server, this.timing, owner);
    else {
      const http2 = { maxHeaderListBytes: 60 * 1024, maxConcurrentStreams: 4, pingIntervalMs: 0, pingTimeoutMs: 0 };
      new Http2Server(dial.far, { ...http2, upgrades: new Set<string>() }, new BufferPool(), this.timing, owner);
    }
    dial.accept();
  }

  run(): void {
    run(this.timing, this.#streams);
  }
}
