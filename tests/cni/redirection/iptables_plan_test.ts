import assert from "node:assert/strict";
import { test } from "node:test";
import { hasOurRules, iptablesDifferences, planRestore } from "../../../src/cni/redirection/iptables_plan.ts";
import { iptablesRules } from "../../../src/cni/redirection/iptables_rules.ts";
import { parseSave } from "../../../src/cni/redirection/iptables_save.ts";
import { DEFAULT_REDIRECTION } from "../../../src/cni/redirection/redirection.ts";
import { TPROXY_1_24 } from "./older_rules.ts";

const WANTED = iptablesRules("ipv4", { ...DEFAULT_REDIRECTION, dnsCapture: true });
const NOTHING = parseSave("");

test("iptables plan: a fresh pod gets the tables mangle, nat and raw, each in one transaction", () => {
  const text = planRestore(NOTHING, WANTED);
  assert.deepEqual(text.match(/^\*\w+|^COMMIT/gm), ["*mangle", "COMMIT", "*nat", "COMMIT", "*raw", "COMMIT"]);
  assert.doesNotMatch(text, /^-[DFX]/m);
});

test("iptables plan: rules that are right are left alone", () => {
  const text = planRestore(NOTHING, WANTED);
  assert.equal(planRestore(parseSave(text), WANTED), "");
  assert.deepEqual(iptablesDifferences("iptables", parseSave(text), WANTED), []);
});

test("iptables plan: rules that captured elsewhere go after those that capture now are there", () => {
  const text = planRestore(parseSave(TPROXY_1_24("127.0.0.1/32", "169.254.7.127/32")), WANTED);
  assert.deepEqual(text.match(/^\*\w+/gm), ["*nat", "*raw", "*mangle"]);
});

test("iptables plan: a right jump keeps its place among the rules of others, and theirs are not touched", () => {
  const found = parseSave(`*nat
:ISTIO_OUTPUT - [0:0]
:THEIRS - [0:0]
-A OUTPUT -j ISTIO_OUTPUT
-A OUTPUT -j THEIRS
-A THEIRS -j ACCEPT
COMMIT
`);
  const nat = planRestore(found, WANTED).split("*nat\n")[1]?.split("COMMIT")[0] ?? "";
  assert.doesNotMatch(nat, /OUTPUT -j ISTIO_OUTPUT$/m);
  assert.match(nat, /^-A PREROUTING -j ISTIO_PRERT$/m);
  assert.doesNotMatch(planRestore(found, WANTED) + planRestore(found, []), /THEIRS/);
});

test("iptables plan: with nothing wanted, jumps of every kind go before the chains that they jump to", () => {
  const found = parseSave(`*filter
:ISTIO_OLD - [0:0]
:ISTIO_OLDER - [0:0]
:THEIRS - [0:0]
-A THEIRS -p tcp -g ISTIO_OLD
-A ISTIO_OLD -j ISTIO_OLDER
COMMIT
`);
  assert.ok(hasOurRules(found));
  assert.equal(
    planRestore(found, []),
    "*filter\n-F ISTIO_OLD\n-F ISTIO_OLDER\n-D THEIRS -p tcp -g ISTIO_OLD\n-X ISTIO_OLD\n-X ISTIO_OLDER\nCOMMIT\n",
  );
  assert.equal(planRestore(NOTHING, []), "");
});

const GUARD = ["INPUT", "FORWARD", "OUTPUT"].map((chain) => `-A ${chain} -p udp -j DROP\n-A ${chain} -p tcp -j DROP\n`);

test("iptables plan: a guard that was left behind is taken out last", () => {
  const found = parseSave(`*filter\n${GUARD.join("")}-A INPUT -p tcp -j DROP\nCOMMIT\n`);
  const text = planRestore(found, WANTED);
  assert.equal(text.match(/^-D /gm)?.length, 6);
  assert.ok(text.indexOf("*filter") > text.indexOf("*nat"));
  assert.match(iptablesDifferences("iptables", found, WANTED).join("\n"), /guard/);
});

test("iptables plan: a part of a guard may be somebody's own rules and stays", () => {
  for (const rules of [GUARD[0], GUARD.slice(1).join(""), `-A INPUT -j ACCEPT\n${GUARD.join("")}`]) {
    assert.equal(planRestore(parseSave(`*filter\n${rules}COMMIT\n`), []), "");
  }
});
