import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConnectFailure } from "../../src/hbone/connect_stream.ts";
import { ECONNREFUSED, EMFILE, ETIMEDOUT } from "../../src/platform/errno.ts";
import { describeFailure, unreachable } from "../../src/ztunnel/connect_failure.ts";

const HOP = "10.0.0.9:15008";

const TABLE: readonly (readonly [ConnectFailure, string, RegExp])[] = [
  [{ stage: "connect", code: ECONNREFUSED }, "CONNECT", /cannot reach 10\.0\.0\.9:15008: .*nothing listens there/],
  [{ stage: "connect", code: ETIMEDOUT }, "NETWORK_POLICY", /maybe a NetworkPolicy is blocking HBONE port 15008/],
  [{ stage: "connect", code: EMFILE }, "CONNECT", /raise the limit of open files/],
  [{ stage: "tls", message: "bad record" }, "TLS_FAILURE", /tls error with 10\.0\.0\.9:15008: bad record/],
  [{ stage: "identity", message: "wrong name" }, "IDENTITY_ERROR", /^wrong name$/],
  [{ stage: "revoked", message: "revoked" }, "CERT_REVOKED", /^revoked$/],
  [{ stage: "status", status: "401" }, "CONNECT", /^http status: 401 Unauthorized; an authorization policy/],
  [{ stage: "status", status: "418" }, "CONNECT", /^http status: 418$/],
  [{ stage: "reset", code: 7 }, "CONNECT", /HTTP\/2 error 7 \(REFUSED_STREAM\)/],
  [{ stage: "h2", message: "no SETTINGS" }, "H2_HANDSHAKE_FAILURE", /http\/2 error with .*: no SETTINGS/],
  [{ stage: "answer", message: "no answer" }, "CONNECT", /^no answer$/],
  [{ stage: "closed", message: "the pod is gone" }, "CONNECT", /^the pod is gone$/],
  [
    { stage: "gateway", failure: { stage: "connect", code: ETIMEDOUT } },
    "NETWORK_POLICY",
    /^network gateway .*NetworkPol/,
  ],
  [
    { stage: "gateway", failure: { stage: "identity", message: "wrong name" } },
    "IDENTITY_ERROR",
    /^network gateway .*wrong/,
  ],
  [
    { stage: "gateway", failure: { stage: "status", status: "503" } },
    "CONNECT",
    /^network gateway .*: http status: 503 Service Unavailable; no endpoint of the service in the gateway's network/,
  ],
  [{ stage: "inner", failure: { stage: "tls", message: "bad" } }, "TLS_FAILURE", /behind network gateway .*: bad/],
  [
    { stage: "inner", failure: { stage: "identity", message: "bad" } },
    "IDENTITY_ERROR",
    /behind network gateway .*: bad/,
  ],
  [{ stage: "inner", failure: { stage: "revoked", message: "bad" } }, "CERT_REVOKED", /behind network gateway .*: bad/],
  [{ stage: "inner", failure: { stage: "closed", message: "bad" } }, "CONNECT", /behind network gateway .*: bad/],
];

for (const [failure, flags, error] of TABLE) {
  test(`connect_failure: ${JSON.stringify(failure)} is ${flags}`, () => {
    const text = describeFailure(failure, HOP);
    assert.equal(text.flags, flags);
    assert.match(text.error, error);
  });
}

test("connect_failure: a plain connection that times out is no tunnel that a NetworkPolicy blocks", () => {
  const { flags, error } = unreachable(ETIMEDOUT, "10.0.0.9:80");
  assert.equal(flags, "CONNECT");
  assert.match(error, /cannot reach 10\.0\.0\.9:80: .*a NetworkPolicy or firewall may block it/);
});
