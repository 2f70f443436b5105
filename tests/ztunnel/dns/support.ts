/** A reactor whose clock a test may put forward, name servers on the loopback, and clients of what is tested. */
import assert from "node:assert/strict";
import { createIoContext, type IoContext } from "../../../src/net/io_context.ts";
import { Reactor } from "../../../src/net/reactor.ts";
import { SocketFactory } from "../../../src/net/socket_factory.ts";
import { TcpStream } from "../../../src/net/tcp_stream.ts";
import { Listener } from "../../../src/net/listener.ts";
import { UdpServer } from "../../../src/net/udp_socket.ts";
import { peerOf } from "../../../src/platform/datagram.ts";
import type { SocketAddress } from "../../../src/platform/sockaddr.ts";
import { closeDescriptor, localAddress } from "../../../src/platform/socket.ts";
import { SystemFiles } from "../../../src/ztunnel/dns/system_files.ts";
import {
  decodeMessage,
  encodeMessage,
  frame,
  FrameReader,
  type Message,
  type Question,
  type ResourceRecord,
} from "../../../src/protocol/dns/mod.ts";
import { EMPTY } from "../../protocol/dns/support.ts";

const DEADLINE_MS = 30_000;

export class Loop {
  readonly reactor: Reactor;
  readonly io: IoContext;
  #aheadMs = 0;

  constructor() {
    this.reactor = new Reactor(() => performance.now() + this.#aheadMs, () => {});
    this.io = createIoContext(this.reactor);
  }

  until(condition: () => boolean, what: string): void {
    const deadline = performance.now() + DEADLINE_MS;
    while (!condition()) {
      assert.ok(performance.now() < deadline, `not in time: ${what}`);
      this.reactor.turn(20);
    }
  }

  /** Turns until nothing happens at once any more. */
  settle(): void {
    for (let i = 0; i < 20; i++) this.reactor.turn(0);
  }

  /** Puts the clock forward; timers that are due fire. */
  pass(milliseconds: number): void {
    this.settle();
    this.#aheadMs += milliseconds;
    this.settle();
  }
}

export const PLAIN_SOCKETS = new SocketFactory(-1, undefined, { keepalive: undefined, userTimeoutMs: undefined });

export interface Saying {
  readonly rcode?: number;
  readonly answers?: readonly ResourceRecord[];
  readonly authorities?: readonly ResourceRecord[];
  readonly truncated?: boolean;
  readonly edns?: boolean;
  /** Changes the bytes that are sent. */
  readonly alter?: (bytes: Uint8Array) => Uint8Array;
}

export interface Asked {
  readonly question: Question;
  readonly request: Message;
  readonly protocol: "udp" | "tcp";
  readonly from: SocketAddress;
}

/** A name server on a port of its own, by UDP and TCP. Undefined says nothing; a list is sent as so many datagrams. */
export class FakeServer {
  readonly asked: Asked[] = [];
  readonly address: SocketAddress;
  readonly #close: (() => void)[] = [];

  constructor(loop: Loop, says: (asked: Asked) => Saying | readonly Saying[] | undefined, ip = "127.0.0.1") {
    const { udp, tcp } = bindBoth(ip);
    this.address = localAddress(udp)!;
    const answers = (bytes: Uint8Array, protocol: "udp" | "tcp", from: SocketAddress): Uint8Array[] => {
      const request = decodeMessage(bytes)!;
      const asked: Asked = { question: request.questions[0], request, protocol, from };
      this.asked.push(asked);
      const said = says(asked);
      const sayings = said === undefined ? [] : Array.isArray(said) ? said as readonly Saying[] : [said as Saying];
      return sayings.map((saying) => encodeSaying(request, saying));
    };
    const server: UdpServer = new UdpServer(loop.reactor, udp, {
      datagram: (bytes, peer) => {
        for (const answer of answers(bytes, "udp", peerOf(peer)!)) server.send(answer, peer);
      },
    });
    const listener = new Listener(loop.reactor, tcp, {
      accepted: (fd, peer) => {
        const stream: TcpStream = new TcpStream(loop.reactor, loop.io.pool, fd, {
          readable: () => {
            const n = stream.read(loop.io.readBuffer, 0, loop.io.readBuffer.length);
            if (n === 0 || (n < 0 && n !== -11)) return stream.close();
            if (n > 0) reader.push(loop.io.readBuffer.slice(0, n));
          },
          drained() {},
          broken() {},
        });
        const reader = new FrameReader((message) => {
          for (const answer of answers(message, "tcp", peer)) {
            const bytes = frame(answer);
            stream.write(bytes, 0, bytes.length);
          }
        });
        stream.resumeRead();
      },
      acceptFailed() {},
    });
    this.#close.push(
      () => server.close(),
      () => listener.close(),
      () => closeDescriptor(udp),
      () => closeDescriptor(tcp),
    );
  }

  close(): void {
    for (const close of this.#close.splice(0)) close();
  }
}

/** The same port for UDP and TCP; a free one of the first may be taken in the second. */
function bindBoth(ip: string): { readonly udp: number; readonly tcp: number } {
  for (let attempt = 0; attempt < 50; attempt++) {
    const udp = PLAIN_SOCKETS.bindDatagram(ip, 0, false);
    const { port } = localAddress(udp)!;
    const { fd } = PLAIN_SOCKETS.listen({ ip, port, ipv6Enabled: false, reusePort: false, transparent: false });
    if (fd >= 0) return { udp, tcp: fd };
    closeDescriptor(udp);
  }
  throw new Error("no port is free for both");
}

function encodeSaying(request: Message, saying: Saying): Uint8Array {
  const bytes = encodeMessage({
    ...EMPTY,
    id: request.id,
    response: true,
    recursionDesired: request.recursionDesired,
    recursionAvailable: true,
    truncated: saying.truncated ?? false,
    rcode: saying.rcode ?? 0,
    questions: request.questions,
    answers: saying.answers ?? [],
    authorities: saying.authorities ?? [],
    edns: saying.edns === false ? undefined : request.edns,
  });
  return saying.alter?.(bytes) ?? bytes;
}

/** Files that a test writes. */
export function files(contents: Readonly<Record<string, string>>, nowMs: () => number = () => 0): SystemFiles {
  return new SystemFiles(nowMs, {
    version: (path) => contents[path],
    read: (path) => contents[path] ?? "",
  });
}

/** An address on which nothing listens. */
export function deadAddress(): SocketAddress {
  const fd = PLAIN_SOCKETS.bindDatagram("127.0.0.1", 0, false);
  const address = localAddress(fd)!;
  closeDescriptor(fd);
  return address;
}
