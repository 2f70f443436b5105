import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { createServer, type TLSSocket } from "node:tls";
import { AF_INET } from "../../../src/platform/sockaddr.ts";
import { TlsContext, type TlsMaterial } from "../../../src/platform/tls_context.ts";
import { TlsSession } from "../../../src/platform/tls_session.ts";
import { closeDescriptor, createTcpSocket } from "../../../src/platform/socket.ts";
import { decodeProxyHeader } from "../../../src/protocol/proxy_protocol.ts";
import type { EndpointReach, TextMatch, TransportSpec, UpstreamTlsSpec } from "../../../src/waypoint/spec/mod.ts";
import type { ServerExchange } from "../../../src/waypoint/http/exchange.ts";
import { Http1Server } from "../../../src/waypoint/http/http1_server.ts";
import { Http2Server } from "../../../src/waypoint/http/http2_server.ts";
import { createClusters } from "../../../src/waypoint/upstream/clusters.ts";
import { LIMITS } from "../support/test_engine.ts";
import { clusterSpec, endpoints, hbone, head, PICK, TestRequest, TestResolver } from "./support.ts";
import { Secrets } from "../../../src/waypoint/transport/secrets.ts";
import { TunnelByteStream } from "../../../src/waypoint/transport/tunnel_stream.ts";
import type { DialedStream, DialRequest, DialWaiter } from "../../../src/waypoint/upstream/dialer.ts";
import type { UpstreamFailure } from "../../../src/waypoint/upstream/upstream.ts";
import { createDialer, type WorkerDialer } from "../../../src/waypoint/upstream/worker_dialer.ts";
import { CLIENT_ID, createMaterial, type Material, SERVER_ID, settings, TestServer } from "../../hbone/support.ts";
import { createLoop, type Loop, patternAt, Peer } from "../../net/support.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { acceptOne, connectToLoopback, listenOnLoopback } from "../../platform/support.ts";
import { LogSink } from "../transport/support.ts";

let material: Material;
let outside: TestAuthority;
let web: TlsMaterial;
before(async () => {
  material = await createMaterial();
  outside = await TestAuthority.create("outside");
  web = await outside.material({ uris: [], dnsNames: ["web.example.com", "*.wild.example.com"] });
});

class Waiter implements DialWaiter {
  sink: LogSink | undefined;
  stream: DialedStream | undefined;
  localAddress = "";
  failure: UpstreamFailure | undefined;
  calls = 0;
  dialed(stream: DialedStream, localAddress: string): void {
    this.calls++;
    this.stream = stream;
    this.localAddress = localAddress;
    this.sink = new LogSink(stream);
  }
  dialFailed(failure: UpstreamFailure): void {
    this.calls++;
    this.failure = failure;
  }
}

let loop: Loop;
let secrets: Secrets;
let dialer: WorkerDialer;
let server: TestServer;
let peers: readonly TextMatch[];
const cleanups: (() => void)[] = [];

beforeEach(() => {
  loop = createLoop();
  peers = [{ kind: "prefix", text: "spiffe://td/", ignoreCase: false }];
  secrets = new Secrets({ systemRoots: () => outside.pem });
  const { client } = material;
  secrets.apply({
    default: { kind: "certificate", chain: client.chain.join(""), key: client.privateKey },
    ROOTCA: { kind: "trust", roots: client.roots.join(""), crl: undefined },
    outside: { kind: "trust", roots: outside.pem, crl: undefined },
    "file-root:system": { kind: "system trust" },
  });
  server = new TestServer(loop, material.server);
  dialer = createDialer({
    io: loop.io,
    secrets,
    tunnelPeers: () => peers,
    createSocket: createTcpSocket,
    settings: settings("client"),
    hbonePort: server.port,
  });
});

afterEach(() => {
  dialer.close("test over");
  server.close();
  loop.settle();
  for (const clean of cleanups.splice(0)) clean();
  secrets.close();
  loop.reactor.dispose();
});

const RAW: TransportSpec = { kind: "raw" };

function dial(reach: EndpointReach, request: Partial<DialRequest> = {}): Waiter {
  const waiter = new Waiter();
  dialer.dial({
    reach,
    transport: RAW,
    serverName: "",
    protocol: "",
    timeoutMs: 2_000,
    keepalive: undefined,
    ends: undefined,
    ...request,
  }, waiter);
  return waiter;
}

const tunnelTo = (target: string, via?: string): EndpointReach => ({ kind: "hbone", target, via });
const direct = (port: number, host = "127.0.0.1"): EndpointReach => ({ kind: "direct", host, port, others: [] });

function tls(spec: Partial<UpstreamTlsSpec> = {}): { readonly kind: "tls"; readonly tls: UpstreamTlsSpec } {
  return {
    kind: "tls",
    tls: {
      sni: "web.example.com",
      autoSni: false,
      autoSan: false,
      sans: [],
      trust: "outside",
      certificate: undefined,
      alpn: [],
      minVersion: "1.2",
      maxVersion: "1.3",
      insecureSkipVerify: false,
      ...spec,
    },
  };
}

function listen(): { readonly fd: number; readonly port: number } {
  const listener = listenOnLoopback();
  cleanups.push(() => closeDescriptor(listener.fd));
  return listener;
}

function acceptPeer(fd: number): Peer {
  const peer = new Peer(acceptOne(fd));
  cleanups.push(() => peer.close());
  return peer;
}

describe("worker dialer: sockets", () => {
  test("dialer: connects straight, tells its own address and relays", () => {
    const { fd, port } = listen();
    const waiter = dial(direct(port), { keepalive: { idleSeconds: 60, intervalSeconds: 10, probes: 3 } });
    loop.until(() => waiter.sink !== undefined, "the connection");
    assert.match(waiter.localAddress, /^127\.0\.0\.1:\d+$/);
    const peer = acceptPeer(fd);
    waiter.sink?.write("hello");
    loop.until(() => peer.read() >= 0 && peer.receivedBytes === 5, "the bytes");
    assert.equal(peer.text(), "hello");
  });

  test("dialer: a refused connection is said to be one, by address", () => {
    const { fd, port } = listenOnLoopback();
    closeDescriptor(fd);
    const waiter = dial(direct(port));
    loop.until(() => waiter.failure !== undefined, "the refusal");
    assert.equal(waiter.failure?.reason, "remote connection failure");
    assert.match(waiter.failure?.detail ?? "", new RegExp(`^127\\.0\\.0\\.1:${port}: connection refused`));
    assert.ok(waiter.failure?.safeToRetry);
  });

  test("dialer: of several addresses the first that connects is taken", () => {
    const { fd, port } = listen();
    const closed = listenOnLoopback();
    closeDescriptor(closed.fd);
    const waiter = dial({
      kind: "direct",
      host: "127.0.0.1",
      port: closed.port,
      others: [{ host: "::1", port: closed.port }, { host: "127.0.0.1", port }],
    });
    loop.until(() => waiter.calls > 0, "an answer");
    assert.equal(waiter.failure, undefined);
    acceptPeer(fd);
    assert.equal(waiter.calls, 1);
  });

  test("dialer: an address that does not answer is given 300 ms before the next one is tried beside it", () => {
    const { fd, port } = listen();
    // Its queue is full: the kernel drops what comes then.
    const silent = listenOnLoopback(AF_INET, 0);
    const fillers = [0, 1].map(() => connectToLoopback(silent.port));
    cleanups.push(() => [silent.fd, ...fillers].forEach(closeDescriptor));
    const startedMs = performance.now();
    const waiter = dial({
      kind: "direct",
      host: "127.0.0.1",
      port: silent.port,
      others: [{ host: "127.0.0.1", port }],
    });
    loop.until(() => waiter.calls > 0, "an answer");
    const tookMs = performance.now() - startedMs;
    assert.equal(waiter.failure, undefined);
    assert.ok(tookMs >= 299 && tookMs < 1_500, `${tookMs} ms`);
    acceptPeer(fd);
  });

  test("dialer: what is given up is not answered, and leaves nothing open", () => {
    const { port } = listen();
    const before = loop.reactor.openDescriptors;
    const waiter = new Waiter();
    const wait = dialer.dial({
      reach: direct(port),
      transport: RAW,
      serverName: "",
      protocol: "",
      timeoutMs: 2_000,
      keepalive: undefined,
      ends: undefined,
    }, waiter);
    wait.cancel();
    loop.settle();
    assert.deepEqual([waiter.calls, loop.reactor.openDescriptors], [0, before]);
  });

  test("dialer: a name that nobody resolved, and a gateway, are refused with a reason", () => {
    assert.match(dial(direct(80, "example.com")).failure?.detail ?? "", /not resolved/);
    const gateway = dial({ kind: "gateway", gateway: "10.0.0.1:15008", target: "a.b:80" });
    assert.match(gateway.failure?.detail ?? "", /other networks/);
  });
});

describe("worker dialer: tunnels", () => {
  test("dialer: CONNECT names the target and nothing else, by the waypoint's identity; tunnels are shared", () => {
    server.respond = (tunnel, stream) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
      const far = new LogSink(new TunnelByteStream(loop.reactor, loop.io.pool, tunnel.connection, stream));
      far.stream.write(new TextEncoder().encode("hi"), 0, 2);
    };
    const waiters = [dial(tunnelTo("127.0.0.1:8080")), dial(tunnelTo("127.0.0.1:9090"))];
    loop.until(() => waiters.every(({ sink }) => sink?.text === "hi"), "both tunnels");
    assert.deepEqual(server.requests, [
      [":method", "CONNECT", ":authority", "127.0.0.1:8080"],
      [":method", "CONNECT", ":authority", "127.0.0.1:9090"],
    ]);
    assert.deepEqual(server.admitted, [CLIENT_ID]);
    assert.equal(server.accepted, 1);
    assert.equal(waiters[0].localAddress, "envoy://internal_client_address/");
  });

  test("dialer: goes through the endpoint's waypoint where it names one", () => {
    const waiter = dial(tunnelTo("10.9.9.9:8080", "127.0.0.1:15008"));
    loop.until(() => waiter.sink !== undefined, "the tunnel");
    assert.equal(server.requests[0][3], "10.9.9.9:8080");
  });

  for (
    const [status, words] of [["401", /denies the waypoint/], ["503", /cannot connect/], [
      "418",
      /418: refused/,
    ]] as const
  ) {
    test(`dialer: an answer of ${status} to CONNECT is a failure that says what it means`, () => {
      server.respond = (tunnel, stream) => {
        tunnel.connection.h2.respond(stream, [":status", status], true);
        tunnel.connection.touch();
      };
      const waiter = dial(tunnelTo("127.0.0.1:8080"));
      loop.until(() => waiter.failure !== undefined, "the answer");
      assert.deepEqual([waiter.failure?.flag, waiter.failure?.reason], ["UF", "remote connection failure"]);
      assert.match(waiter.failure?.detail ?? "", words);
    });
  }

  test("dialer: a far end of another trust domain, or behind another root, is refused before a request is sent", async () => {
    peers = [{ kind: "prefix", text: "spiffe://other/", ignoreCase: false }];
    const wrongName = dial(tunnelTo("127.0.0.1:8080"));
    loop.until(() => wrongName.failure !== undefined, "the refusal");
    assert.match(wrongName.failure?.detail ?? "", new RegExp(`${SERVER_ID}, which is not of this mesh`));
    peers = [];
    const other = await TestAuthority.create("other");
    secrets.apply({ ROOTCA: { kind: "trust", roots: other.pem, crl: undefined } });
    const wrongRoot = dial(tunnelTo("127.0.0.1:8080"));
    loop.until(() => wrongRoot.failure !== undefined, "the refusal");
    assert.match(wrongRoot.failure?.detail ?? "", /certificate verification failed/);
    assert.equal(server.requests.length, 0);
  });

  test("dialer: a revoked far end is refused", async () => {
    const crl = await material.authority.crl([material.server.chain[0]]);
    secrets.apply({ ROOTCA: { kind: "trust", roots: material.authority.pem, crl } });
    const waiter = dial(tunnelTo("127.0.0.1:8080"));
    loop.until(() => waiter.failure !== undefined, "the refusal");
    assert.match(waiter.failure?.detail ?? "", /revoked/);
  });

  test("dialer: without an identity nothing is sent", () => {
    secrets.apply({ default: null });
    assert.match(dial(tunnelTo("127.0.0.1:8080")).failure?.detail ?? "", /certificate default is not here yet/);
    assert.equal(server.accepted, 0);
  });

  test("dialer: a renewed certificate is used by the next tunnel", async () => {
    const first = dial(tunnelTo("127.0.0.1:8080"));
    loop.until(() => first.sink !== undefined, "the first tunnel");
    const next = await material.authority.material({ uris: ["spiffe://td/ns/a/sa/next"] });
    secrets.apply({ default: { kind: "certificate", chain: next.chain.join(""), key: next.privateKey } });
    for (const connection of dialer.tunnels.connections()) connection.close("replaced");
    loop.settle();
    const second = dial(tunnelTo("127.0.0.1:8080"));
    loop.until(() => second.sink !== undefined, "the second tunnel");
    assert.deepEqual(server.admitted, [CLIENT_ID, "spiffe://td/ns/a/sa/next"]);
  });

  test("dialer: a CONNECT that is given up is taken back", () => {
    server.respond = () => {};
    const waiter = new Waiter();
    const wait = dialer.dial({
      reach: tunnelTo("127.0.0.1:8080"),
      transport: RAW,
      serverName: "",
      protocol: "",
      timeoutMs: 2_000,
      keepalive: undefined,
      ends: undefined,
    }, waiter);
    loop.until(() => server.streams.length === 1, "the request");
    wait.cancel();
    loop.until(() => server.streams[0].isClosed, "the reset");
    assert.equal(waiter.calls, 0);
  });
});

describe("worker dialer: a cluster on top of it", () => {
  test("dialer: requests by HTTP/1.1 and HTTP/2 go through tunnels and come back, and a lost tunnel cuts them", () => {
    let answers = true;
    server.respond = (tunnel, stream, fields) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
      const bytes = new TunnelByteStream(loop.reactor, loop.io.pool, tunnel.connection, stream);
      const owner = {
        request: (exchange: ServerExchange) => {
          if (answers) exchange.respond({ status: 200, headers: ["x-path", exchange.head.path] }, true);
        },
        refused() {},
        closed() {},
      };
      if (fields[3].endsWith(":8080")) {
        const options = {
          limits: LIMITS,
          serverName: "x",
          idleTimeoutMs: 0,
          headersTimeoutMs: 0,
          upgrades: new Set<string>(),
        };
        new Http1Server(bytes, options, loop.reactor, owner);
      } else {
        const options = { maxHeaderListBytes: 65_536, maxConcurrentStreams: 100, pingIntervalMs: 0, pingTimeoutMs: 0 };
        new Http2Server(bytes, { ...options, upgrades: new Set<string>() }, loop.io.pool, loop.reactor, owner);
      }
    };
    const clusters = createClusters({
      timing: loop.reactor,
      dialer,
      resolver: new TestResolver(),
      buffers: loop.io.pool,
      random: Math.random,
    });
    for (const [port, kind] of [[8080, "http1"], [9090, "http2"]] as const) {
      answers = true;
      const protocol = { kind, http2KeepaliveMs: 0, preserveHeaderCase: false };
      clusters.apply({ clusters: [clusterSpec({ protocol })], endpoints: [endpoints([hbone(`127.0.0.1:${port}`)])] });
      const cluster = clusters.get(clusterSpec().name)!;
      for (let i = 0; i < 3; i++) {
        const request = new TestRequest(head(`/${i}`));
        cluster.http(PICK, "1.1", request);
        loop.until(() => request.answer.ended, `answer ${i} by ${kind}`);
        assert.equal(request.answer.header("x-path"), `/${i}`);
      }
      assert.equal(cluster.counters.upstream_cx_active, 1);
      answers = false;
      const cut = new TestRequest(head("/cut"));
      cluster.http(PICK, "1.1", cut);
      loop.turnFor(20);
      for (const connection of dialer.tunnels.connections()) connection.close("pulled out");
      loop.until(() => cut.answer.cut !== undefined, "the cut");
      assert.equal(cut.answer.cut?.kind, "connection lost");
      assert.deepEqual([cluster.counters.upstream_rq_active, cluster.counters.upstream_cx_active], [0, 0]);
    }
    clusters.close("test over");
  });
});

describe("worker dialer: PROXY header", () => {
  const ends = { source: { ip: "10.0.1.5", port: 40000 }, destination: { ip: "10.96.0.20", port: 80 } };
  const receive = (transport: TransportSpec, given: DialRequest["ends"], bytes: number): Peer => {
    const { fd, port } = listen();
    const waiter = dial(direct(port), { transport, ends: given });
    loop.until(() => waiter.sink !== undefined, "the connection");
    waiter.sink?.write("GET");
    const peer = acceptPeer(fd);
    loop.until(() => peer.read() >= 0 && peer.receivedBytes >= bytes, "the header");
    return peer;
  };

  test("dialer: PROXY version 1 is a line before everything else", () => {
    const header = "PROXY TCP4 10.0.1.5 10.96.0.20 40000 80\r\nGET";
    assert.equal(receive({ kind: "proxy protocol", version: 1, inner: RAW }, ends, header.length).text(), header);
    const six = {
      source: { ip: "2001:db8::5", port: 1 },
      destination: { ip: "2001:db8::20", port: 2 },
    };
    const line = "PROXY TCP6 2001:db8::5 2001:db8::20 1 2\r\nGET";
    assert.equal(receive({ kind: "proxy protocol", version: 1, inner: RAW }, six, line.length).text(), line);
    const mixed = { source: ends.source, destination: six.destination };
    const unknown = "PROXY UNKNOWN\r\nGET";
    assert.equal(receive({ kind: "proxy protocol", version: 1, inner: RAW }, mixed, unknown.length).text(), unknown);
  });

  test("dialer: PROXY version 2 tells both ends, or that they are not known", () => {
    const peer = receive({ kind: "proxy protocol", version: 2, inner: RAW }, ends, 31);
    const header = decodeProxyHeader(peer.received[0]);
    assert.ok(header.kind === "header");
    assert.deepEqual(header.source, { ip: new Uint8Array([10, 0, 1, 5]), port: 40000 });
    assert.deepEqual(header.destination, { ip: new Uint8Array([10, 96, 0, 20]), port: 80 });
    const nobody = decodeProxyHeader(
      receive({ kind: "proxy protocol", version: 2, inner: RAW }, undefined, 19).received[0],
    );
    assert.ok(nobody.kind === "header" && nobody.source === undefined && nobody.length === 16);
  });
});

describe("worker dialer: TLS", () => {
  interface Web {
    readonly port: number;
    readonly sockets: TLSSocket[];
    readonly received: string[];
    close(): void;
  }
  let site: Web;

  /** A TLS server of the runtime's own making: it shares no code with the client. */
  async function serve(options: Record<string, unknown> = {}): Promise<Web> {
    const sockets: TLSSocket[] = [];
    const received: string[] = [];
    const tlsServer = createServer({ key: web.privateKey, cert: web.chain.join(""), ...options }, (socket) => {
      sockets.push(socket);
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        received.push(bytes.toString("latin1"));
        socket.write(bytes);
      });
    });
    tlsServer.on("tlsClientError", () => {});
    await new Promise<void>((resolve) => tlsServer.listen(0, "127.0.0.1", () => resolve()));
    return {
      port: (tlsServer.address() as AddressInfo).port,
      sockets,
      received,
      close: () => {
        for (const socket of sockets) socket.destroy();
        tlsServer.close();
      },
    };
  }

  /** Both event loops have their turns: the runtime's, in which the server runs, and the reactor. */
  async function both(condition: () => boolean, what: string): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!condition()) {
      assert.ok(performance.now() < deadline, `not in time: ${what}`);
      loop.reactor.turn(0);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  beforeEach(async () => {
    site = await serve();
  });
  afterEach(() => site.close());
  after(() => site.close());

  test("dialer: TLS to a server of its own roots and name carries bytes both ways, large ones too", async () => {
    const waiter = dial(direct(site.port), { transport: tls({ sans: [exactly("dns", "web.example.com")] }) });
    await both(() => waiter.calls > 0, "the handshake");
    assert.equal(waiter.failure, undefined);
    const all = patternAt(0, 900_000, 5);
    waiter.sink?.write(all);
    await both(() => (waiter.sink?.bytes ?? 0) >= all.length, "the echo");
    let at = 0;
    for (const part of waiter.sink?.parts ?? []) {
      assert.deepEqual(part, patternAt(at, part.length, 5));
      at += part.length;
    }
    site.sockets[0].end();
    await both(() => waiter.sink?.ended === true, "the server's end");
    assert.equal(waiter.sink?.cut, undefined);
    waiter.sink?.end();
    await both(() => waiter.sink?.over === 1, "our end");
  });

  test("dialer: TLS 1.2 is spoken where it is the most that is allowed", async () => {
    for (const version of ["1.2", "1.3"] as const) {
      const waiter = dial(direct(site.port), { transport: tls({ minVersion: version, maxVersion: version }) });
      await both(() => waiter.calls > 0, `the handshake of ${version}`);
      assert.equal(waiter.failure, undefined);
      waiter.sink?.write("ping");
      await both(() => waiter.sink?.text === "ping", "the echo");
      assert.equal(site.sockets.at(-1)?.getProtocol(), `TLSv${version}`);
    }
  });

  const exactly = (type: "dns" | "uri" | "any", text: string) =>
    ({ type, match: { kind: "exact", text, ignoreCase: false } }) as const;

  const REFUSED: readonly (readonly [what: string, spec: Partial<UpstreamTlsSpec>, words: RegExp])[] = [
    [
      "a name that the certificate does not bear",
      { sans: [exactly("dns", "other.example.com")] },
      /names .* do not match/,
    ],
    ["a URI name where it has DNS names", { sans: [exactly("uri", "web.example.com")] }, /do not match/],
    ["the request's host, where that is what is verified", { autoSan: true }, /do not match request\.example\.com/],
    ["a root that did not sign it", { trust: "ROOTCA" }, /certificate verification failed/],
    ["roots that are not here", { trust: "kubernetes://x-cacert" }, /roots kubernetes:\/\/x-cacert are not here/],
    ["no roots at all", { trust: undefined }, /no roots are named/],
    [
      "a certificate of ours that is not here",
      { certificate: "file-cert:a~b" },
      /certificate file-cert:a~b is not here/,
    ],
  ];
  for (const [what, spec, words] of REFUSED) {
    test(`dialer: TLS is refused by ${what}, and nothing is sent`, async () => {
      const waiter = dial(direct(site.port), { transport: tls(spec), serverName: "request.example.com" });
      await both(() => waiter.calls > 0, "the refusal");
      assert.match(waiter.failure?.detail ?? "", words);
      assert.equal(waiter.failure?.flag, "UF");
      await both(() => true, "");
      assert.deepEqual(site.received, []);
    });
  }

  const TAKEN: readonly (readonly [what: string, spec: Partial<UpstreamTlsSpec>, serverName: string])[] = [
    ["the operating system's roots", { trust: "file-root:system" }, ""],
    ["the request's host below a wildcard", { autoSan: true, autoSni: true }, "a.wild.example.com"],
    ["any name of several", { sans: [exactly("any", "x"), exactly("any", "web.example.com")] }, ""],
    ["nothing, where verification was given up", { trust: undefined, insecureSkipVerify: true, autoSan: true }, "x.y"],
  ];
  for (const [what, spec, serverName] of TAKEN) {
    test(`dialer: TLS is taken by ${what}`, async () => {
      const waiter = dial(direct(site.port), { transport: tls(spec), serverName });
      await both(() => waiter.calls > 0, "the handshake");
      assert.equal(waiter.failure, undefined);
    });
  }

  test("dialer: a server that goes away during the handshake is a failure", () => {
    const { fd, port } = listen();
    const waiter = dial(direct(port), { transport: tls() });
    loop.turnFor(20);
    acceptPeer(fd).close();
    loop.until(() => waiter.failure !== undefined, "the failure");
    assert.match(waiter.failure?.detail ?? "", /TLS: .*(ended the connection|reset)/);
  });

  test("dialer: a server that ends without close_notify is a cut, with it an end", () => {
    for (const says of [false, true]) {
      const { fd, port } = listen();
      const spec = { sni: "", alpn: ["h2"], trust: "ROOTCA", certificate: "default" };
      const waiter = dial(direct(port), { transport: tls(spec) });
      loop.turnFor(5);
      const near = acceptOne(fd);
      const context = new TlsContext("server", material.server);
      const session = new TlsSession(context, near);
      loop.until(() => session.handshake() === 1 && waiter.sink !== undefined, "the handshake");
      assert.ok(session.write(new TextEncoder().encode("part"), 0, 4) > 0);
      if (says) session.shutdown();
      session.free();
      context.close();
      closeDescriptor(near);
      loop.until(() => waiter.sink?.ended === true || waiter.sink?.cut !== undefined, "the end");
      assert.equal(waiter.sink?.text, "part");
      assert.equal(waiter.sink?.ended, says);
      if (!says) assert.match(waiter.sink?.cut?.detail ?? "", /without a TLS close_notify/);
    }
  });

  test("dialer: a TLS connection that is reset is a cut", async () => {
    const waiter = dial(direct(site.port), { transport: tls() });
    await both(() => waiter.sink !== undefined, "the handshake");
    await both(() => site.sockets.length > 0, "the server's socket");
    waiter.sink?.write("x");
    await both(() => waiter.sink?.text === "x", "the echo");
    site.sockets[0].resetAndDestroy();
    await both(() => waiter.sink?.cut !== undefined, "the cut");
    assert.equal(waiter.sink?.ended, false);
    assert.equal(waiter.sink?.over, 1);
  });

  test("dialer: TLS is inside the tunnel: the far end sees a client hello", () => {
    let far: LogSink | undefined;
    server.respond = (tunnel, stream) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
      far = new LogSink(new TunnelByteStream(loop.reactor, loop.io.pool, tunnel.connection, stream));
    };
    const waiter = dial(tunnelTo("127.0.0.1:8080"), {
      transport: tls({ alpn: [] }),
      protocol: "h2",
    });
    loop.until(() => (far?.bytes ?? 0) > 5, "the hello");
    assert.equal(far?.parts[0][0], 22);
    assert.ok(far?.text.includes("web.example.com") && far.text.includes("\x02h2"));
    far?.stream.reset();
    loop.until(() => waiter.failure !== undefined, "the failure");
    assert.match(waiter.failure?.detail ?? "", /TLS: connection reset by peer/);
  });

  test("dialer: a client certificate is shown where a secret is named", () => {
    // A tunnel server takes no client without one.
    const spec = { sni: "", alpn: ["h2"], trust: "ROOTCA", certificate: "default", maxVersion: "1.3" } as const;
    const waiter = dial(direct(server.port), { transport: tls(spec) });
    loop.until(() => waiter.sink !== undefined && server.admitted.length > 0, "the handshake");
    assert.deepEqual(server.admitted, [CLIENT_ID]);
    const without = dial(direct(server.port), { transport: tls({ ...spec, certificate: undefined }) });
    loop.until(() => without.failure !== undefined || without.sink?.cut !== undefined, "the refusal");
    assert.match(without.sink?.cut?.detail ?? without.failure?.detail ?? "", /certificate/);
    assert.deepEqual(server.admitted, [CLIENT_ID]);
  });

  test("dialer: the PROXY header comes before TLS, in the clear", () => {
    const { fd, port } = listen();
    dial(direct(port), {
      transport: { kind: "proxy protocol", version: 1, inner: tls() },
      ends: { source: { ip: "10.0.1.5", port: 1 }, destination: { ip: "10.96.0.20", port: 2 } },
    });
    const line = "PROXY TCP4 10.0.1.5 10.96.0.20 1 2\r\n";
    loop.turnFor(20);
    const peer = acceptPeer(fd);
    loop.until(() => peer.read() >= 0 && peer.receivedBytes > line.length, "header and hello");
    assert.ok(peer.text().startsWith(`${line}\x16\x03`));
  });
});
