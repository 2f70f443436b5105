/** Nothing passes unredirected while rules are replaced, nor when nobody finishes the work; and what was there before is gone afterwards. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_REDIRECTION, type RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { OLDER_RULES } from "./older_rules.ts";
import { NOTHING, provePassing, sendDuring, withPair } from "./packets.ts";
import { BACKENDS, everything, redirectionBy, run, withNetns } from "./support.ts";

const SETTINGS: RedirectionSettings = { ...DEFAULT_REDIRECTION, dnsCapture: true };
const OTHERS: RedirectionSettings = { ...SETTINGS, virtualInterfaces: ["tap0"] };
/** Every means follows every means, itself too; a scenario of `test:cni` does it more often and under more packets. */
const ORDER = [0, 0, 1, 1, 2, 2, 0, 2, 1, 0];

test("redirection: no packet passes unredirected while rules are replaced, by themselves and by other means", async () => {
  await withPair(async (pair) => {
    await provePassing(pair);
    await redirectionBy("nftables").apply(pair.netns, SETTINGS);
    await pair.passed();
    const before = pair.sent;
    for (const [round, index] of ORDER.entries()) {
      const backend = BACKENDS[index]!;
      await sendDuring(pair, redirectionBy(backend).apply(pair.netns, round % 2 === 0 ? OTHERS : SETTINGS));
      assert.deepEqual(await pair.passed(), NOTHING, `replacement ${round} by ${backend}`);
    }
    assert.ok(pair.sent - before > ORDER.length * 6, `only ${pair.sent - before} packets were sent`);
  });
});

for (const [name, install] of Object.entries(OLDER_RULES)) {
  test(`redirection: takes over from ${name}, without a packet that passes and without a trace`, async () => {
    await Promise.all(BACKENDS.map((backend) =>
      withPair(async (pair) => {
        await provePassing(pair);
        await install(pair.netns);
        await pair.passed();
        const isCaptured = !name.endsWith("no rules");
        const redirection = redirectionBy(backend);
        await sendDuring(pair, redirection.apply(pair.netns, SETTINGS));
        if (isCaptured) assert.deepEqual(await pair.passed(), NOTHING, backend);
        assert.deepEqual(await redirection.verify(pair.netns, SETTINGS), [], backend);
        assert.doesNotMatch(await everything(pair.netns), /DROP|ISTIO_OLDER|TPROXY/, backend);
      })
    ));
  });
}

test("redirection: verify sees rules of older versions and of other means", async () => {
  const redirection = redirectionBy("nftables");
  for (const [name, install] of Object.entries(OLDER_RULES)) {
    await withNetns(async (netns) => {
      await redirection.apply(netns, SETTINGS);
      assert.deepEqual(await redirection.verify(netns, SETTINGS), []);
      if (name.includes("nftables")) await run(netns, ["nft", "flush", "ruleset"], "");
      await install(netns);
      assert.notDeepEqual(await redirection.verify(netns, SETTINGS), [], name);
    });
  }
});

test("redirection: rules of istio-cni by the same means are right as they are, whatever its spelling", async () => {
  for (const backend of ["iptables-nft", "iptables-legacy"] as const) {
    await withNetns(async (netns) => {
      await OLDER_RULES[`istio-cni's, by ${backend}`]!(netns);
      const differences = await redirectionBy(backend).verify(netns, SETTINGS);
      assert.deepEqual(differences.filter((line) => line.includes("tables")), []);
    });
  }
});

test("redirection: remove takes out older rules of every kind, without apply", async () => {
  await withNetns(async (netns) => {
    const clean = await everything(netns);
    for (const [name, install] of Object.entries(OLDER_RULES)) {
      await install(netns);
      await redirectionBy("nftables").remove(netns);
      assert.equal(await everything(netns), clean, name);
    }
  });
});

class Died extends Error {}

/** Of istio-cni by both variants of iptables, and by the means that captures elsewhere. */
const HARDEST = ["TPROXY, by iptables-nft", "TPROXY, by iptables-legacy", "both variants of iptables, doubled jumps"];

for (const backend of BACKENDS) {
  test(`${backend}: a process that dies before any tool of a replacement leaves the pod captured, and the next one finishes`, async () => {
    await Promise.all(HARDEST.map((name) =>
      withPair(async (pair) => {
        await provePassing(pair);
        for (let steps = 0, isFinished = false; !isFinished; steps++) {
          await redirectionBy(backend).remove(pair.netns);
          await OLDER_RULES[name]!(pair.netns);
          await pair.passed();
          let left = steps;
          const dying = redirectionBy(backend, (netns, command, text, env) => {
            if (left-- === 0) throw new Died();
            return run(netns, command, text, env);
          });
          await dying.apply(pair.netns, SETTINGS).then(() => isFinished = true, (error) =>
            assert.ok(error instanceof Died, error));
          for (let i = 0; i < 3; i++) {
            pair.send();
          }
          assert.deepEqual(await pair.passed(), NOTHING, `died before tool ${steps}`);
        }
        assert.deepEqual(await redirectionBy(backend).verify(pair.netns, SETTINGS), []);
      })
    ));
  });
}
