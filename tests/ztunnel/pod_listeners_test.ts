import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileIdentity, insideNamespace, openNamespace } from "../../src/platform/netns.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { MessageReceiver, MessageSender, seqpacketPair } from "../../src/platform/seqpacket.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import {
  acceptSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  localAddress,
  peerAddress,
} from "../../src/platform/socket.ts";
import { LISTENER_PORTS, openPodListeners, type PodListenerOptions } from "../../src/ztunnel/pod_listeners.ts";
import { createNamespace, socketOption, type TestNamespace, waitFor } from "../platform/support.ts";

let namespace: TestNamespace;
let options: PodListenerOptions;

before(async () => {
  namespace = await createNamespace();
  options = {
    netns: { kind: "path", path: namespace.path },
    mark: 1337,
    ipv6Enabled: true,
    reusePort: false,
    requireOriginalSource: undefined,
    tuning: { keepalive: undefined, userTimeoutMs: undefined },
  };
});

after(() => {
  if (opened !== -1) closeDescriptor(opened);
  namespace.close();
});

describe("pod_listeners", () => {
  test("pod_listeners: opens ztunnel's three ports inside the pod, marked and transparent", () => {
    const before = openDescriptors();
    const listeners = openPodListeners(options);
    assert.deepEqual(LISTENER_PORTS, { outbound: 15001, inboundPlaintext: 15006, inboundHbone: 15008 });
    for (const kind of ["outbound", "inboundPlaintext", "inboundHbone"] as const) {
      assert.deepEqual(localAddress(listeners.fds[kind]!), { ip: "::", port: LISTENER_PORTS[kind] });
      assert.equal(socketOption(listeners.fds[kind]!, 1, 36), 1337);
    }
    assert.equal(listeners.originalSource, true);
    listeners.close();
    assert.equal(openDescriptors(), before);
  });

  test("pod_listeners: a pod without IPv6 gets IPv4 listeners", () => {
    const listeners = openPodListeners({ ...options, ipv6Enabled: false });
    assert.equal(localAddress(listeners.fds.outbound!)?.ip, "0.0.0.0");
    listeners.close();
  });

  test("pod_listeners: keeps no source address where that is not wanted", () => {
    const listeners = openPodListeners({ ...options, requireOriginalSource: false });
    assert.equal(listeners.originalSource, false);
    listeners.close();
  });

  test("pod_listeners: all three or none, and a conflict is explained", () => {
    const first = openPodListeners(options);
    const before = openDescriptors();
    assert.throws(
      () => openPodListeners(options),
      /cannot listen on port 15\d\d\d: address already in use \(EADDRINUSE\); another ztunnel/,
    );
    assert.equal(openDescriptors(), before);
    first.close();
    openPodListeners(options).close();
  });

  test("pod_listeners: two may share the ports during an upgrade", () => {
    const shared = { ...options, reusePort: true };
    const first = openPodListeners(shared);
    const second = openPodListeners(shared);
    first.close();
    second.close();
  });

  test("pod_listeners: a namespace that does not exist is named", () => {
    assert.throws(
      () => openPodListeners({ ...options, netns: { kind: "path", path: "/proc/0/ns/net" } }),
      /cannot open the network namespace \/proc\/0\/ns\/net: no such file or directory/,
    );
  });

  test("pod_listeners: the last accepting takes what waits in every queue, with its kind", () => {
    const listeners = openPodListeners(options);
    const inside = openNamespace(namespace.path);
    const clients = [LISTENER_PORTS.outbound, LISTENER_PORTS.inboundHbone, LISTENER_PORTS.inboundHbone].map((port) => {
      const fd = insideNamespace(inside, () => createTcpSocket(AF_INET));
      connectSocket(fd, "127.0.0.1", port, AF_INET);
      return fd;
    });
    waitFor(listeners.fds.outbound!);
    waitFor(listeners.fds.inboundHbone!);
    const taken: [string, number][] = [];
    listeners.stopListening((kind, fd) => taken.push([kind, fd]));
    assert.deepEqual(taken.map(([kind]) => kind).sort(), ["inboundHbone", "inboundHbone", "outbound"]);
    for (const [, fd] of taken) assert.equal(peerAddress(fd)?.ip, "127.0.0.1");
    listeners.close();
    for (const fd of [...clients, ...taken.map(([, fd]) => fd), inside]) closeDescriptor(fd);
  });

  test("pod_listeners: sockets of the process before are used; what is not as it should be is refused, closed and made anew", async () => {
    const shared = { ...options, reusePort: true };
    const elsewhere = await createNamespace();
    const before = openDescriptors();
    const first = openPodListeners(shared);
    const stranger = openPodListeners({ ...shared, netns: { kind: "path", path: elsewhere.path } });
    const v4 = openPodListeners({ ...shared, netns: { kind: "path", path: elsewhere.path }, ipv6Enabled: false });
    const unbound = insideNamespace(first.namespaceFd, () => createTcpSocket(AF_INET6));
    const cases: readonly (readonly [number, RegExp])[] = [
      [first.fds.inboundPlaintext!, /it listens on :: port 15006/],
      [stranger.fds.outbound!, /another network namespace/],
      [v4.fds.outbound!, /it listens on 0\.0\.0\.0 port 15001/],
      [unbound, /does not listen for TCP/],
      [first.namespaceFd, /no socket/],
    ];
    for (const [fd, reason] of cases) {
      const refused: string[] = [];
      const inherited = new Map([["outbound", copyOf(fd)], ["unknown kind", copyOf(fd)]]);
      const next = openPodListeners({
        ...shared,
        inherited,
        refused: (kind, text) => refused.push(`${kind}: ${text}`),
      });
      assert.equal(refused.length, 1);
      assert.match(refused[0], reason);
      assert.equal(next.shared, false);
      assert.equal(localAddress(next.fds.outbound!)?.port, LISTENER_PORTS.outbound);
      next.close();
    }
    const inherited = new Map([["outbound", copyOf(first.fds.outbound!)]]);
    const next = openPodListeners({ ...shared, mark: 7, inherited });
    assert.equal(next.shared, true);
    assert.equal(fileIdentity(next.fds.outbound!), fileIdentity(first.fds.outbound!));
    assert.equal(socketOption(next.fds.outbound!, 1, 36), 7, "it has the new process' options");
    next.close();
    for (const listeners of [first, stranger, v4]) listeners.close();
    closeDescriptor(unbound);
    assert.equal(openDescriptors(), before);
    elsewhere.close();
  });

  test("pod_listeners: a queue that another process has too is left to it", () => {
    const listeners = openPodListeners(options);
    const client = insideNamespace(openedNamespace(), () => createTcpSocket(AF_INET));
    connectSocket(client, "127.0.0.1", LISTENER_PORTS.outbound, AF_INET);
    const kept = copyOf(listeners.fds.outbound!);
    listeners.stopListening(undefined);
    assert.deepEqual(listeners.fds, {});
    waitFor(kept);
    const accepted = acceptSocket(kept);
    assert.ok(accepted >= 0);
    listeners.close();
    for (const fd of [client, kept, accepted]) closeDescriptor(fd);
  });

  test("pod_listeners: in dedicated mode listeners have no mark, what is made for the pod has", () => {
    const listeners = openPodListeners({ ...options, markListeners: false });
    assert.equal(socketOption(listeners.fds.outbound!, 1, 36), 0);
    assert.equal(listeners.mark, 1337);
    listeners.close();
  });
});

let opened = -1;

function openedNamespace(): number {
  if (opened === -1) opened = openNamespace(namespace.path);
  return opened;
}

/** A second descriptor of the same file, as another process would have it. */
function copyOf(fd: number): number {
  const [a, b] = seqpacketPair();
  new MessageSender(1).send(a, new Uint8Array(1), [fd]);
  const receiver = new MessageReceiver(1);
  receiver.receive(b);
  closeDescriptor(a);
  closeDescriptor(b);
  return receiver.fds[0];
}
