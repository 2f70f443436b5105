import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { IstiodError, toIstiodError } from "../../../src/control/istiod/mod.ts";

const ADDRESS = "https://istiod:15012";
const told = (cause: unknown) => {
  const { kind, status, message } = toIstiodError(cause, ADDRESS);
  return { kind, status, message };
};

test("errors: a status of the server is told with its name, and with what to check where that is known", () => {
  assert.deepEqual(told(new ConnectError("no pods of it here", Code.PermissionDenied)), {
    kind: "status",
    status: "permission_denied",
    message: "https://istiod:15012 answered permission_denied: no pods of it here " +
      "(check that istiod trusts the service account (for a ztunnel: CA_TRUSTED_NODE_ACCOUNTS))",
  });
  assert.deepEqual(told(new ConnectError("", Code.DeadlineExceeded)), {
    kind: "status",
    status: "deadline_exceeded",
    message: "https://istiod:15012 answered deadline_exceeded: no reason given",
  });
});

test("errors: what the connection did is not taken for the server's word", () => {
  const broken = new ConnectError("read ECONNRESET", Code.Aborted, undefined, undefined, new Error("read ECONNRESET"));
  assert.equal(told(broken).kind, "stream");
  const reset = new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled);
  assert.equal(told(reset).kind, "stream");
  assert.equal(told(new ConnectError("protocol error: missing status", Code.Internal)).kind, "stream");
  assert.equal(told(new Error("something else")).kind, "stream");
});

test("errors: an own error comes through what was wrapped around it", () => {
  const own = new IstiodError("stream", "no answer to a PING");
  assert.equal(toIstiodError(own, ADDRESS), own);
  assert.equal(toIstiodError(new ConnectError("x", Code.Internal, undefined, undefined, own), ADDRESS), own);
});
