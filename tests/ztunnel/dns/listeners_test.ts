import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { afterEach, beforeEach, test } from "node:test";
import { openDescriptors } from "../../../src/platform/process.ts";
import { localAddress, SOCK_DGRAM, socketKind } from "../../../src/platform/socket.ts";
import { duplicateDescriptor } from "../../../src/platform/datagram.ts";
import { openPodListeners, type PodListenerOptions } from "../../../src/ztunnel/pod_listeners.ts";
import { createNamespace, socketOption, type TestNamespace } from "../../platform/support.ts";

const SO_MARK = 36;

let namespace: TestNamespace;
let options: PodListenerOptions;

beforeEach(async () => {
  namespace = await createNamespace();
  options = {
    netns: { kind: "path", path: namespace.path },
    listeners: [],
    dnsAddress: "localhost:15053",
    mark: 1337,
    ipv6Enabled: true,
    reusePort: false,
    requireOriginalSource: undefined,
    tuning: { keepalive: undefined, userTimeoutMs: undefined },
  };
});
afterEach(() => namespace.close());

function opened(changes: Partial<PodListenerOptions> = {}): Record<string, string> {
  const listeners = openPodListeners({ ...options, ...changes });
  const addresses = Object.entries(listeners.fds).map(([kind, fd]) => {
    assert.equal(socketOption(fd!, 1, SO_MARK), 1337);
    assert.equal(socketKind(fd!)!.type === SOCK_DGRAM, kind.startsWith("dnsUdp"));
    const { ip, port } = localAddress(fd!)!;
    return [kind, `${ip} ${port}`];
  });
  listeners.close();
  return Object.fromEntries(addresses);
}

test("dns listeners: both loopbacks by UDP and TCP, marked, inside the pod", () => {
  const before = openDescriptors();
  assert.deepEqual(opened(), {
    dnsUdp: "127.0.0.1 15053",
    dnsTcp: "127.0.0.1 15053",
    dnsUdp6: "::1 15053",
    dnsTcp6: "::1 15053",
  });
  assert.equal(openDescriptors(), before);
});

test("dns listeners: no ::1 in a pod without IPv6, whatever ztunnel itself has", () => {
  const v4 = { dnsUdp: "127.0.0.1 15053", dnsTcp: "127.0.0.1 15053" };
  assert.deepEqual(opened({ ipv6Enabled: false }), v4);
  const script = "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6";
  assert.equal(spawnSync("nsenter", [`--net=${namespace.path}`, "sh", "-c", script]).status, 0);
  assert.deepEqual(opened(), v4);
});

test("dns listeners: at another address", () => {
  assert.deepEqual(opened({ dnsAddress: "127.0.0.9:53" }), { dnsUdp: "127.0.0.9 53", dnsTcp: "127.0.0.9 53" });
  assert.deepEqual(opened({ dnsAddress: "[::]:5353" }), { dnsUdp6: ":: 5353", dnsTcp6: ":: 5353" });
  assert.deepEqual(opened({ dnsAddress: undefined }), {});
  assert.throws(() => opened({ dnsAddress: "nowhere" }), /neither localhost:port nor ip:port/);
});

test("dns listeners: a conflict is explained, and nothing stays open", () => {
  const first = openPodListeners(options);
  const before = openDescriptors();
  assert.throws(() => openPodListeners(options), /cannot listen on port 15053: address already in use/);
  assert.equal(openDescriptors(), before);
  first.close();
});

test("dns listeners: two processes may share them, or the second takes those of the first", () => {
  const shared = { ...options, reusePort: true };
  const first = openPodListeners(shared);
  openPodListeners(shared).close();
  const inherited = new Map(Object.entries(first.fds).map(([kind, fd]) => [kind, duplicateDescriptor(fd!)]));
  const refused: string[] = [];
  const second = openPodListeners({
    ...shared,
    reusePort: false,
    inherited,
    refused: (kind, reason) => refused.push(`${kind}: ${reason}`),
  });
  assert.deepEqual(refused, []);
  assert.deepEqual(second.fds, Object.fromEntries(inherited));
  first.close();
  second.close();
});

test("dns listeners: a socket of the other process that is not the right one is refused", () => {
  const first = openPodListeners({ ...options, reusePort: true });
  const swapped = new Map([
    ["dnsUdp", duplicateDescriptor(first.fds.dnsTcp!)],
    ["dnsTcp", duplicateDescriptor(first.fds.dnsUdp!)],
    ["dnsUdp6", duplicateDescriptor(first.fds.dnsUdp!)],
  ]);
  const refused: string[] = [];
  const second = openPodListeners({
    ...options,
    reusePort: true,
    inherited: swapped,
    refused: (kind) => refused.push(kind),
  });
  assert.deepEqual(refused.sort(), ["dnsTcp", "dnsUdp", "dnsUdp6"]);
  assert.deepEqual(Object.keys(second.fds).sort(), ["dnsTcp", "dnsTcp6", "dnsUdp", "dnsUdp6"]);
  first.close();
  second.close();
});
