import assert from "node:assert/strict";
import { test } from "node:test";
import { podListeners } from "../../src/ztunnel/pod_listeners.ts";

const plans = (proxyEnabled: boolean, socks5Enabled: boolean) =>
  podListeners({ proxyEnabled, socks5Enabled }).map(({ kind, ip, port }) => `${kind} ${ip ?? "*"}:${port}`);

test("pod_listeners: the three ports of the redirection, and SOCKS on the loopback alone where it is wanted", () => {
  const three = ["inboundHbone *:15008", "inboundPlaintext *:15006", "outbound *:15001"];
  assert.deepEqual(plans(true, false), three);
  assert.deepEqual(plans(true, true), [...three, "socks 127.0.0.1:15080"]);
});

test("pod_listeners: without ENABLE_PROXY no TCP at all", () => {
  assert.deepEqual(plans(false, false), []);
  assert.deepEqual(plans(false, true), []);
});
