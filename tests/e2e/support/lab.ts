/**
 * Sockets inside pods, held by the test process itself: made in the pod's network namespace as ztunnel makes its own, and served by a
 * reactor that takes turns with the runtime's event loop. So a test sees each RST and end of stream as the kernel gives it.
 */
import { connectErrorText } from "./errors.ts";
import { Connector } from "../../../src/net/connector.ts";
import { createIoContext, type IoContext } from "../../../src/net/io_context.ts";
import { Listener } from "../../../src/net/listener.ts";
import { Reactor } from "../../../src/net/reactor.ts";
import { SocketFactory } from "../../../src/net/socket_factory.ts";
import { TcpStream } from "../../../src/net/tcp_stream.ts";
import { AF_INET, AF_INET6, isIpv6, type SocketAddress } from "../../../src/platform/sockaddr.ts";
import { closeDescriptor, localAddress } from "../../../src/platform/socket.ts";
import { Peer } from "./peer.ts";

/** The reactor blocks for at most this long, so that child processes and channels get their turn. */
const TURN_MS = 1;
/** Under load the runtime's own descriptors are looked at this often. */
const BUSY_MS = 5;
const CONNECT_TIMEOUT_MS = 15_000;

export class Lab {
  readonly io: IoContext = createIoContext(new Reactor(() => performance.now(), () => {}));
  #stop = false;
  readonly #stopped: Promise<void>;

  constructor() {
    this.#stopped = this.#run();
  }

  /** Connects from the namespace. Rejects with an error whose `code` is the errno. */
  connect(namespaceFd: number, ip: string, port: number): Promise<Peer> {
    return this.connectRaw(namespaceFd, ip, port).then((fd) => this.adopt(fd, { ip, port }));
  }

  /** Resolves with the connected descriptor, which is the caller's. */
  connectRaw(namespaceFd: number, ip: string, port: number): Promise<number> {
    const family = isIpv6(ip) ? AF_INET6 : AF_INET;
    const fd = factory(namespaceFd).createClient(family);
    if (fd < 0) return Promise.reject(connectErrorText(-fd, ip, port));
    return new Promise((resolve, reject) => {
      const handler = {
        connected: resolve,
        connectFailed: (code: number) => reject(connectErrorText(code, ip, port)),
      };
      new Connector(this.io.reactor, handler, fd, family, ip, port, CONNECT_TIMEOUT_MS);
    });
  }

  /** Takes over a connected descriptor. */
  adopt(fd: number, remote: SocketAddress): Peer {
    return new Peer((sink) => new TcpStream(this.io.reactor, this.io.pool, fd, sink), remote, localAddress(fd));
  }

  /** Listens on the wildcard address of both families. Every connection goes to `accepted`. */
  listenRaw(namespaceFd: number, port: number, accepted: (fd: number, peer: SocketAddress) => void): Server {
    const { fd } = factory(namespaceFd).listen({ port, ipv6Enabled: true, reusePort: false, transparent: false });
    if (fd < 0) throw new Error(`cannot listen on port ${port}: error ${-fd}`);
    const listener = new Listener(this.io.reactor, fd, {
      accepted,
      acceptFailed: (code) => {
        throw new Error(`cannot accept: error ${code}`);
      },
    });
    return {
      close() {
        listener.close();
        closeDescriptor(fd);
      },
    };
  }

  listen(namespaceFd: number, port: number, accepted: (peer: Peer) => void): Server {
    return this.listenRaw(namespaceFd, port, (fd, peer) => accepted(this.adopt(fd, peer)));
  }

  async close(): Promise<void> {
    this.#stop = true;
    await this.#stopped;
    this.io.reactor.dispose();
  }

  async #run(): Promise<void> {
    let yieldedMs = 0;
    while (!this.#stop) {
      const startedMs = performance.now();
      this.io.reactor.turn(TURN_MS);
      const nowMs = performance.now();
      // A timer lets Deno look at its own descriptors; as long as immediates are waiting it does so only now and then.
      const idle = nowMs - startedMs >= TURN_MS || nowMs - yieldedMs > BUSY_MS;
      if (idle) yieldedMs = nowMs;
      await new Promise<void>((resolve) => idle ? setTimeout(resolve, 0) : setImmediate(resolve));
    }
  }
}

/** What of a pod it takes to put sockets into it. */
export interface PodSockets {
  readonly namespaceFd: number;
  readonly mesh: { readonly lab: Lab };
}

export interface Server {
  close(): void;
}

function factory(namespaceFd: number): SocketFactory {
  return new SocketFactory(namespaceFd, undefined, { keepalive: undefined, userTimeoutMs: undefined });
}
