import assert from "node:assert/strict";
import { test } from "node:test";
import {
  arrivedAt,
  createDatagramSocket,
  datagramPeer,
  DatagramReceiver,
  duplicateDescriptor,
  peerOf,
  sendDatagram,
  setPacketInfo,
} from "../../src/platform/datagram.ts";
import { EAGAIN } from "../../src/platform/errno.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import { bindSocket, closeDescriptor, connectSocket, localAddress, receive } from "../../src/platform/socket.ts";
import { waitFor } from "./support.ts";

/** A bound socket, and its port. */
function bound(ip: string, family = AF_INET): readonly [number, number] {
  const fd = createDatagramSocket(family);
  assert.ok(fd >= 0);
  assert.equal(bindSocket(fd, ip, 0, family), 0);
  return [fd, localAddress(fd)!.port];
}

test("datagram: several come in one call, each with its sender", () => {
  const [server, port] = bound("127.0.0.1");
  const [first, firstPort] = bound("127.0.0.1");
  const [second, secondPort] = bound("127.0.0.2");
  const to = datagramPeer("127.0.0.1", port, AF_INET);
  for (const [fd, byte] of [[first, 1], [second, 2], [first, 3]]) {
    assert.equal(sendDatagram(fd, Uint8Array.of(byte, byte), to), 2);
  }
  waitFor(server);
  const receiver = new DatagramReceiver(4, 64);
  assert.equal(receiver.receive(server), 3);
  assert.deepEqual([0, 1, 2].map((i) => receiver.datagram(i)![0]), [1, 2, 3]);
  assert.deepEqual([0, 1, 2].map((i) => peerOf(receiver.takePeer(i))), [
    { ip: "127.0.0.1", port: firstPort },
    { ip: "127.0.0.2", port: secondPort },
    { ip: "127.0.0.1", port: firstPort },
  ]);
  assert.equal(receiver.receive(server), -EAGAIN);
  // The memory is ready again, whatever the last call left in it.
  assert.equal(sendDatagram(first, Uint8Array.of(9), to), 1);
  waitFor(server);
  assert.equal(receiver.receive(server), 1);
  assert.deepEqual(peerOf(receiver.takePeer(0)), { ip: "127.0.0.1", port: firstPort });
  for (const fd of [server, first, second]) closeDescriptor(fd);
});

test("datagram: more than a batch waits for the next call", () => {
  const [server, port] = bound("127.0.0.1");
  const [client] = bound("127.0.0.1");
  for (let i = 0; i < 5; i++) sendDatagram(client, Uint8Array.of(i), datagramPeer("127.0.0.1", port, AF_INET));
  waitFor(server);
  const receiver = new DatagramReceiver(3, 64);
  const seen: number[] = [];
  for (let n = receiver.receive(server); n > 0; n = receiver.receive(server)) {
    for (let i = 0; i < n; i++) {
      seen.push(receiver.datagram(i)![0]);
      receiver.takePeer(i);
    }
  }
  assert.deepEqual(seen, [0, 1, 2, 3, 4]);
  for (const fd of [server, client]) closeDescriptor(fd);
});

test("datagram: one that is too long is told, and does not harm the next", () => {
  const [server, port] = bound("127.0.0.1");
  const [client] = bound("127.0.0.1");
  const to = datagramPeer("127.0.0.1", port, AF_INET);
  sendDatagram(client, new Uint8Array(65).fill(7), to);
  sendDatagram(client, new Uint8Array(64).fill(8), to);
  waitFor(server);
  const receiver = new DatagramReceiver(2, 64);
  assert.equal(receiver.receive(server), 2);
  assert.equal(receiver.datagram(0), undefined);
  assert.equal(receiver.datagram(1)!.length, 64);
  for (const fd of [server, client]) closeDescriptor(fd);
});

for (
  const [what, family, wildcard, own, bytes] of [
    ["IPv4", AF_INET, "0.0.0.0", "127.0.0.5", Uint8Array.of(127, 0, 0, 5)],
    ["IPv6", AF_INET6, "::", "::1", Uint8Array.of(...new Array(15).fill(0), 1)],
  ] as const
) {
  test(`datagram: on a wildcard socket the answer leaves from where the question came to, ${what}`, () => {
    const [server, port] = bound(wildcard, family);
    assert.equal(setPacketInfo(server, family === AF_INET6), 0);
    const client = createDatagramSocket(family);
    // Connected: it takes nothing from another address.
    assert.equal(connectSocket(client, own, port, family), 0);
    assert.equal(sendDatagram(client, Uint8Array.of(1), datagramPeer(own, port, family)), 1);
    waitFor(server);
    const receiver = new DatagramReceiver(1, 64);
    assert.equal(receiver.receive(server), 1);
    const peer = receiver.takePeer(0);
    assert.deepEqual(arrivedAt(peer), bytes);
    assert.equal(sendDatagram(server, Uint8Array.of(2, 3), peer), 2);
    waitFor(client);
    const answer = new Uint8Array(8);
    assert.equal(receive(client, answer, 0, 8), 2);
    assert.deepEqual([...answer.subarray(0, 2)], [2, 3]);
    for (const fd of [server, client]) closeDescriptor(fd);
  });
}

test("datagram: a socket bound to one address says nothing of where it was reached", () => {
  const [server, port] = bound("127.0.0.1");
  const [client] = bound("127.0.0.1");
  sendDatagram(client, Uint8Array.of(1), datagramPeer("127.0.0.1", port, AF_INET));
  waitFor(server);
  const receiver = new DatagramReceiver(1, 64);
  receiver.receive(server);
  assert.equal(arrivedAt(receiver.takePeer(0)), undefined);
  for (const fd of [server, client]) closeDescriptor(fd);
});

test("datagram: a duplicate lives on when the first descriptor is closed", () => {
  const [server, port] = bound("127.0.0.1");
  const copy = duplicateDescriptor(server);
  assert.ok(copy >= 0 && copy !== server);
  closeDescriptor(server);
  assert.deepEqual(localAddress(copy), { ip: "127.0.0.1", port });
  closeDescriptor(copy);
  assert.equal(duplicateDescriptor(copy), -9);
});
