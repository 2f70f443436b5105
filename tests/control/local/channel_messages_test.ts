import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ChannelProtocolError,
  type ChildMessage,
  decodeChildMessage,
  decodeParentMessage,
  encodeMessage,
  type ParentMessage,
} from "../../../src/control/local/channel_messages.ts";

const CHILD: readonly ChildMessage[] = [
  { type: "hello", role: "ztunnel", name: "node-a", version: 2, pid: 123 },
  { type: "hello", role: "waypoint", name: "shop/waypoint", version: 2, pid: 124 },
  { type: "ready" },
  { type: "csr", id: 7, identity: "spiffe://cluster.local/ns/a/sa/b", csr: "-----BEGIN\nx\n" },
  { type: "ack", id: 3 },
  { type: "ack", id: 3, error: "no" },
];

const PARENT: readonly ParentMessage[] = [
  { type: "mesh", id: 1, resources: { workloads: [{ uid: "a" }], services: [], policies: [] } },
  { type: "pod_add", id: 2, uid: "u", netns: "/n", name: "p", namespace: "ns", serviceAccount: "sa" },
  { type: "pod_del", id: 3, uid: "u" },
  { type: "pods_done", id: 4 },
  { type: "resources", id: 5, typeUrl: "type.googleapis.com/x.Y", resources: ["", "AAE=", "/+8h"], removed: ["z"] },
  { type: "certificate", id: 7, chain: ["leaf", "int"], roots: ["root"] },
  { type: "certificate", id: 7, error: "no" },
];

test("channel_messages: every message is one line and reads back as it was", () => {
  for (const message of CHILD) {
    const line = encodeMessage(message);
    assert.equal(line.indexOf("\n"), line.length - 1);
    assert.deepEqual(decodeChildMessage(line), message);
  }
  for (const message of PARENT) assert.deepEqual(decodeParentMessage(encodeMessage(message)), message);
});

test("channel_messages: a missing or wrongly typed field is refused by name", () => {
  for (const [messages, decode] of [[CHILD, decodeChildMessage], [PARENT, decodeParentMessage]] as const) {
    for (const message of messages) {
      for (const key of Object.keys(message).filter((key) => key !== "error")) {
        for (const value of [undefined, null, {}, -1.5, [1]]) {
          const line = JSON.stringify({ ...message, [key]: value });
          assert.throws(() => decode(line), ChannelProtocolError, line);
        }
      }
    }
  }
});

test("channel_messages: a resource that is not base64 in its one form is refused", () => {
  for (const text of ["=", "AAE", "AAF=", "A A=", "_-8h", "AA==AA==", "é"]) {
    const line = JSON.stringify({ type: "resources", id: 1, typeUrl: "x", resources: [text], removed: [] });
    assert.throws(() => decodeParentMessage(line), /"resources" holds what is not base64/, text);
  }
});

test("channel_messages: whatever the line, the answer is a message or a protocol error", () => {
  const anything = fc.oneof(fc.string(), fc.json(), fc.constantFrom("null", "[]", "1", `{"type":"mesh","id":1}`));
  fc.assert(fc.property(anything, (line) => {
    for (const decode of [decodeChildMessage, decodeParentMessage]) {
      try {
        decode(line);
      } catch (error) {
        assert.ok(error instanceof ChannelProtocolError, String(error));
      }
    }
  }));
});
