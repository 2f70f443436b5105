import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { EAGAIN, ECONNREFUSED, EINVAL, ENAMETOOLONG, ENOENT } from "../../src/platform/errno.ts";
import { openNamespace } from "../../src/platform/netns.ts";
import {
  connectSeqpacket,
  listenSeqpacket,
  MAX_PASSED_DESCRIPTORS,
  MessageReceiver,
  MessageSender,
  peerCredentials,
  seqpacketPair,
} from "../../src/platform/seqpacket.ts";
import { acceptSocket, closeDescriptor } from "../../src/platform/socket.ts";

const receiver = new MessageReceiver(64);
const sender = new MessageSender(64);
let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), "ambit-seqpacket-"));
});
after(() => rmSync(directory, { recursive: true }));

function openCount(): number {
  return readdirSync("/proc/self/fd").length;
}

function inode(fd: number): number {
  return statSync(`/proc/self/fd/${fd}`).ino;
}

test("seqpacket: messages keep their bounds, and an end is read as 0", () => {
  const [a, b] = seqpacketPair();
  assert.equal(receiver.receive(b), -EAGAIN);
  assert.equal(sender.send(a, new Uint8Array([1, 2])), 2);
  assert.equal(sender.send(a, new Uint8Array([3])), 1);
  assert.equal(receiver.receive(b), 2);
  assert.deepEqual([...receiver.copy(2)], [1, 2]);
  assert.equal(receiver.receive(b), 1);
  assert.deepEqual([...receiver.copy(1)], [3]);
  assert.deepEqual(receiver.fds, []);
  closeDescriptor(a);
  assert.equal(receiver.receive(b), 0);
  closeDescriptor(b);
});

test("seqpacket: a message longer than the memory is marked as truncated, the next one is not", () => {
  const [a, b] = seqpacketPair();
  assert.equal(new MessageSender(100).send(a, new Uint8Array(65)), 65);
  assert.equal(sender.send(a, new Uint8Array(64)), 64);
  assert.equal(receiver.receive(b), 64);
  assert.equal(receiver.truncated, true);
  assert.equal(receiver.receive(b), 64);
  assert.equal(receiver.truncated, false);
  assert.equal(sender.send(a, new Uint8Array(65)), -EINVAL, "longer than the sender's memory");
  closeDescriptor(a);
  closeDescriptor(b);
});

test("seqpacket: descriptors arrive, close-on-exec, and refer to the same file", () => {
  const [a, b] = seqpacketPair();
  const file = openNamespace("/proc/self/ns/net");
  for (let count = 1; count <= 4; count++) {
    assert.equal(sender.send(a, new Uint8Array([count]), Array(count).fill(file)), 1);
    assert.equal(receiver.receive(b), 1);
    assert.equal(receiver.fds.length, count);
    for (const fd of receiver.fds) {
      assert.notEqual(fd, file);
      assert.equal(inode(fd), inode(file));
    }
    receiver.closeDescriptors();
    assert.deepEqual(receiver.fds, []);
  }
  // What a message without descriptors brings is none, not the last one's.
  sender.send(a, new Uint8Array([9]));
  receiver.receive(b);
  assert.deepEqual(receiver.fds, []);
  closeDescriptor(file);
  closeDescriptor(a);
  closeDescriptor(b);
});

test("seqpacket: as many descriptors as the kernel passes; none is left open", () => {
  const [a, b] = seqpacketPair();
  const file = openNamespace("/proc/self/ns/net");
  const before = openCount();
  assert.equal(sender.send(a, new Uint8Array([1]), Array(MAX_PASSED_DESCRIPTORS).fill(file)), 1);
  assert.equal(receiver.receive(b), 1);
  assert.equal(receiver.fds.length, MAX_PASSED_DESCRIPTORS);
  assert.equal(receiver.controlTruncated, false);
  assert.equal(openCount(), before + MAX_PASSED_DESCRIPTORS);
  receiver.closeDescriptors();
  assert.equal(openCount(), before);
  assert.equal(sender.send(a, new Uint8Array([1]), Array(MAX_PASSED_DESCRIPTORS + 1).fill(file)), -EINVAL);
  closeDescriptor(file);
  closeDescriptor(a);
  closeDescriptor(b);
});

test("seqpacket: memory holds under collections", () => {
  const [a, b] = seqpacketPair();
  for (let i = 0; i < 2_000; i++) {
    const bytes = new Uint8Array(64).fill(i & 255);
    sender.send(a, bytes, i % 10 === 0 ? [a] : []);
    assert.equal(receiver.receive(b), 64);
    assert.ok(receiver.copy(64).every((byte) => byte === (i & 255)));
    assert.equal(receiver.fds.length, i % 10 === 0 ? 1 : 0);
    receiver.closeDescriptors();
  }
  closeDescriptor(a);
  closeDescriptor(b);
});

test("seqpacket: a server knows who connects; a path that nobody serves is refused", () => {
  const path = join(directory, "server.sock");
  assert.equal(connectSeqpacket(path), -ENOENT);
  const listener = listenSeqpacket(path, 4);
  assert.ok(listener > 0);
  assert.equal(acceptSocket(listener), -EAGAIN);
  const client = connectSeqpacket(path);
  const served = acceptSocket(listener);
  assert.ok(client > 0 && served > 0);
  assert.deepEqual(peerCredentials(served), {
    pid: process.pid,
    uid: process.getuid!(),
    gid: process.getgid!(),
  });
  sender.send(client, new Uint8Array([7]));
  assert.equal(receiver.receive(served), 1);
  for (const fd of [client, served, listener]) closeDescriptor(fd);
  assert.equal(connectSeqpacket(path), -ECONNREFUSED);
  assert.equal(connectSeqpacket("/" + "x".repeat(107)), -ENAMETOOLONG);
  assert.equal(listenSeqpacket("", 1), -ENAMETOOLONG);
});
