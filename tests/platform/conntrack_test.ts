import assert from "node:assert/strict";
import { test } from "node:test";
import { spawnSync } from "node:child_process";
import { createConntrackSocket, originalDatagramDestination } from "../../src/platform/conntrack.ts";
import {
  createDatagramSocket,
  datagramPeer,
  DatagramReceiver,
  peerOf,
  sendDatagram,
} from "../../src/platform/datagram.ts";
import { insideNamespace, openNamespace } from "../../src/platform/netns.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import { bindSocket, closeDescriptor } from "../../src/platform/socket.ts";
import { parseIp } from "../../src/mesh/ip.ts";
import { createNamespace, waitFor } from "./support.ts";

const SETUP = [
  "ip link add d0 type veth peer name d1",
  "ip link set d0 up",
  "ip link set d1 up",
  "ip addr add 10.1.1.1/24 dev d0",
  "ip addr add fd00:1::1/64 dev d0 nodad",
  "ip route add default dev d0",
  "ip -6 route add default dev d0",
].join(" && ");
const RULES = `
add table inet t
add chain inet t o { type nat hook output priority -100; }
add rule inet t o oifname != "lo" udp dport 53 redirect to :15053
`;

test("conntrack: tells where a redirected datagram was going, and nothing of others", async () => {
  const namespace = await createNamespace(SETUP);
  const nft = spawnSync("nsenter", [`--net=${namespace.path}`, "nft", "-f", "-"], { input: RULES });
  assert.equal(nft.status, 0, String(nft.stderr));
  const inside = openNamespace(namespace.path);
  const conntrack = insideNamespace(inside, createConntrackSocket);
  assert.ok(conntrack >= 0);
  for (const [family, loopback, to] of [[AF_INET, "127.0.0.1", "10.9.9.9"], [AF_INET6, "::1", "fd00:9::9"]] as const) {
    const server = insideNamespace(inside, () => createDatagramSocket(family));
    assert.equal(bindSocket(server, loopback, 15053, family), 0);
    const client = insideNamespace(inside, () => createDatagramSocket(family));
    assert.equal(sendDatagram(client, Uint8Array.of(1), datagramPeer(to, 53, family)), 1);
    waitFor(server);
    const receiver = new DatagramReceiver(1, 64);
    assert.equal(receiver.receive(server), 1);
    const from = peerOf(receiver.takePeer(0))!;
    const local = { ip: parseIp(loopback)!, port: 15053 };
    const peer = { ip: parseIp(from.ip)!, port: from.port };
    assert.deepEqual(originalDatagramDestination(conntrack, peer, local), { ip: to, port: 53 });
    assert.equal(originalDatagramDestination(conntrack, { ...peer, port: from.port ^ 1 }, local), undefined);
    closeDescriptor(server);
    closeDescriptor(client);
  }
  // A socket of another namespace knows nothing of these flows.
  closeDescriptor(conntrack);
  closeDescriptor(inside);
  await namespace.close();
});
