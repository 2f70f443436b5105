import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { insideNamespace, openNamespace } from "../../src/platform/netns.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import {
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
    netns: namespace.path,
    mark: 1337,
    ipv6Enabled: true,
    reusePort: false,
    requireOriginalSource: undefined,
    tuning: { keepalive: undefined, userTimeoutMs: undefined },
  };
});

after(() => namespace.close());

describe("pod_listeners", () => {
  test("pod_listeners: opens ztunnel's three ports inside the pod, marked and transparent", () => {
    const before = openDescriptors();
    const listeners = openPodListeners(options);
    assert.deepEqual(LISTENER_PORTS, { outbound: 15001, inboundPlaintext: 15006, inboundHbone: 15008 });
    for (const kind of ["outbound", "inboundPlaintext", "inboundHbone"] as const) {
      assert.deepEqual(localAddress(listeners.fds[kind]), { ip: "::", port: LISTENER_PORTS[kind] });
      assert.equal(socketOption(listeners.fds[kind], 1, 36), 1337);
    }
    assert.equal(listeners.originalSource, true);
    listeners.close();
    assert.equal(openDescriptors(), before);
  });

  test("pod_listeners: a pod without IPv6 gets IPv4 listeners", () => {
    const listeners = openPodListeners({ ...options, ipv6Enabled: false });
    assert.equal(localAddress(listeners.fds.outbound)?.ip, "0.0.0.0");
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
      () => openPodListeners({ ...options, netns: "/proc/0/ns/net" }),
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
    waitFor(listeners.fds.outbound);
    waitFor(listeners.fds.inboundHbone);
    const taken: [string, number][] = [];
    listeners.acceptLast((kind, fd) => taken.push([kind, fd]));
    assert.deepEqual(taken.map(([kind]) => kind).sort(), ["inboundHbone", "inboundHbone", "outbound"]);
    for (const [, fd] of taken) assert.equal(peerAddress(fd)?.ip, "127.0.0.1");
    listeners.close();
    for (const fd of [...clients, ...taken.map(([, fd]) => fd), inside]) closeDescriptor(fd);
  });
});
