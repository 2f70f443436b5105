import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { test } from "node:test";
import { EBADF, ECONNREFUSED, EINPROGRESS, EINVAL, ENOENT } from "../../src/platform/errno.ts";
import { insideNamespace, openNamespace } from "../../src/platform/netns.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import {
  bindSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  listenSocket,
  localAddress,
  originalDestination,
  takeSocketError,
} from "../../src/platform/socket.ts";
import { EPOLLOUT } from "../../src/platform/epoll.ts";
import { acceptOne, createNamespace, waitFor } from "./support.ts";

const here = () => readlinkSync("/proc/thread-self/ns/net");
const createV4 = () => createTcpSocket(AF_INET);

test("netns: a socket lies in the namespace it was made in, and the thread is back", async () => {
  const namespace = await createNamespace();
  const fd = openNamespace(namespace.path);
  assert.ok(fd >= 0);
  const before = here();
  let inside = "";
  const listener = insideNamespace(fd, () => {
    inside = here();
    return createV4();
  });
  assert.ok(listener >= 0);
  assert.notEqual(inside, before);
  assert.equal(here(), before);
  assert.equal(bindSocket(listener, "127.0.0.1", 0, AF_INET), 0);
  assert.equal(listenSocket(listener, 8), 0);
  const port = localAddress(listener)?.port as number;

  const outside = createV4();
  const refused = connectSocket(outside, "127.0.0.1", port, AF_INET);
  if (refused === -EINPROGRESS) {
    waitFor(outside, EPOLLOUT);
    assert.equal(takeSocketError(outside), ECONNREFUSED, "the port is open in the other namespace only");
  } else assert.equal(refused, -ECONNREFUSED);

  const client = insideNamespace(fd, createV4);
  connectSocket(client, "127.0.0.1", port, AF_INET);
  const server = acceptOne(listener);
  // No rule and no connection tracking in there: nothing was redirected.
  assert.equal(originalDestination(server), undefined);
  for (const open of [listener, outside, client, server, fd]) closeDescriptor(open);
  await namespace.close();
});

test("netns: a namespace that cannot be entered is an errno, and nothing is made", () => {
  const before = here();
  const notMade = () => assert.fail("made outside of the namespace");
  assert.equal(insideNamespace(1 << 20, notMade), -EBADF);
  const noNamespace = openNamespace("/proc/self/status");
  assert.equal(insideNamespace(noNamespace, notMade), -EINVAL);
  assert.equal(here(), before);
  closeDescriptor(noNamespace);
});

test("netns: a path that does not exist is ENOENT", () => {
  assert.equal(openNamespace("/proc/self/ns/no-such-namespace"), -ENOENT);
});

test("netns: the thread comes back even from a creation that throws", async () => {
  const namespace = await createNamespace();
  const fd = openNamespace(namespace.path);
  const before = here();
  assert.throws(() =>
    insideNamespace(fd, () => {
      throw new Error("a bug");
    }), /a bug/);
  assert.equal(here(), before);
  closeDescriptor(fd);
  await namespace.close();
});

test("netns: the error of a failed creation comes out as it is", async () => {
  const namespace = await createNamespace();
  const fd = openNamespace(namespace.path);
  const EAFNOSUPPORT = 97;
  assert.equal(insideNamespace(fd, () => createTcpSocket(12345)), -EAFNOSUPPORT);
  closeDescriptor(fd);
  await namespace.close();
});
