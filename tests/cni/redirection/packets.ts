/**
 * A pod and its neighbour, joined by a pair of devices; packets in both directions, and a count of those that passed the pod's rules
 * unredirected.
 */
import assert from "node:assert/strict";
import { createDatagramSocket, datagramPeer, sendDatagram } from "../../../src/platform/datagram.ts";
import { insideNamespace, openNamespace } from "../../../src/platform/netns.ts";
import { AF_INET, AF_INET6 } from "../../../src/platform/sockaddr.ts";
import {
  acceptSocket,
  bindSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  listenSocket,
  setResetOnClose,
} from "../../../src/platform/socket.ts";
import { input, output, withNetns } from "./support.ts";

const POD = { [AF_INET]: "10.9.0.2", [AF_INET6]: "fd09::2" } as const;
const NEIGHBOUR = { [AF_INET]: "10.9.0.1", [AF_INET6]: "fd09::1" } as const;
const FAMILIES = [AF_INET, AF_INET6] as const;
/** Where the pod's application listens. */
const APPLICATION_PORT = 8080;
const QUERY = new Uint8Array(new ArrayBuffer(12));

const COUNTER = `table inet seen {
  chain prerouting {
    type filter hook prerouting priority -400;
    tcp dport 80 counter
    udp dport 53 counter
  }
}
`;

export interface Pair {
  /** The pod's namespace. */
  readonly netns: string;
  /** One packet of each kind: TCP and DNS out of the pod, TCP into it, by IPv4 and IPv6. */
  send(): void;
  /** Packets sent so far. */
  readonly sent: number;
  /** Packets that passed unredirected since the last time. */
  passed(): Promise<Passed>;
}

export interface Passed {
  /** They reached the neighbour. */
  readonly out: number;
  /** They reached the application. */
  readonly in: number;
}

export const NOTHING: Passed = { out: 0, in: 0 };

export async function withPair(body: (pair: Pair) => Promise<void>): Promise<void> {
  await withNetns(async (netns) => {
    await withNetns(async (neighbour) => {
      await output(netns, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", neighbour);
      for (const [place, addresses] of [[netns, POD], [neighbour, NEIGHBOUR]] as const) {
        await output(place, "ip", "link", "set", "eth0", "up");
        for (const family of FAMILIES) {
          const length = family === AF_INET ? 24 : 64;
          await output(place, "ip", "addr", "add", `${addresses[family]}/${length}`, "dev", "eth0", "nodad");
        }
      }
      await input(neighbour, COUNTER, "nft", "-f", "-");
      const pair = new Packets(netns, neighbour);
      try {
        await body(pair);
      } finally {
        pair.close();
      }
    });
  });
}

class Packets implements Pair {
  readonly netns: string;
  sent = 0;
  readonly #neighbour: string;
  readonly #inPod: number;
  readonly #inNeighbour: number;
  readonly #listeners: readonly number[];
  readonly #senders: ReadonlyMap<number, number>;
  #counted = 0;

  constructor(netns: string, neighbour: string) {
    this.netns = netns;
    this.#neighbour = neighbour;
    this.#inPod = openNamespace(netns);
    this.#inNeighbour = openNamespace(neighbour);
    this.#listeners = FAMILIES.map((family) => {
      const fd = insideNamespace(this.#inPod, () => createTcpSocket(family));
      assert.equal(bindSocket(fd, POD[family], APPLICATION_PORT, family), 0);
      assert.equal(listenSocket(fd, 128), 0);
      return fd;
    });
    this.#senders = new Map(
      FAMILIES.map((family) => [family, insideNamespace(this.#inPod, () => createDatagramSocket(family))]),
    );
  }

  send(): void {
    for (const family of FAMILIES) {
      this.#connect(this.#inPod, NEIGHBOUR[family], 80, family);
      this.#connect(this.#inNeighbour, POD[family], APPLICATION_PORT, family);
      // A flow of its own each time: the kernel decides once for all packets of a flow.
      closeDescriptor(this.#senders.get(family)!);
      const sender = insideNamespace(this.#inPod, () => createDatagramSocket(family));
      (this.#senders as Map<number, number>).set(family, sender);
      sendDatagram(sender, QUERY, datagramPeer(NEIGHBOUR[family], 53, family));
      this.sent += 3;
    }
  }

  #connect(namespace: number, ip: string, port: number, family: number): void {
    const fd = insideNamespace(namespace, () => createTcpSocket(family));
    assert.ok(fd >= 0);
    connectSocket(fd, ip, port, family);
    setResetOnClose(fd);
    closeDescriptor(fd);
  }

  async passed(): Promise<Passed> {
    let accepted = 0;
    for (const listener of this.#listeners) {
      for (let fd = acceptSocket(listener); fd >= 0; fd = acceptSocket(listener)) {
        accepted++;
        closeDescriptor(fd);
      }
    }
    const text = await output(this.#neighbour, "nft", "list", "table", "inet", "seen");
    const counted = [...text.matchAll(/packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
    const before = this.#counted;
    this.#counted = counted;
    return { out: counted - before, in: accepted };
  }

  close(): void {
    for (const fd of [...this.#listeners, ...this.#senders.values(), this.#inPod, this.#inNeighbour]) {
      closeDescriptor(fd);
    }
  }
}

/** Without rules packets pass in every way that is looked at, or a test that sees none would say nothing. */
export async function provePassing(pair: Pair): Promise<void> {
  let [out, inward] = [0, 0];
  for (let tries = 0; out < 6 || inward < 6; tries++) {
    assert.ok(tries < 1000, "without rules packets pass");
    for (let i = 0; i < 3; i++) pair.send();
    const passed = await pair.passed();
    out += passed.out;
    inward += passed.in;
  }
}

/** Sends packets until the work is done: without a pause, or a few every millisecond, which leaves the work its time. */
export async function sendDuring(pair: Pair, work: Promise<unknown>, rate: "few" | "all" = "few"): Promise<void> {
  let isDone = false;
  const finished = work.finally(() => isDone = true);
  while (!isDone) {
    pair.send();
    await new Promise((resolve) => rate === "few" ? setTimeout(resolve, 1) : setImmediate(resolve));
  }
  await finished;
}
