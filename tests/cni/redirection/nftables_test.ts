/** The rules against the kernel: in a scratch network namespace, which needs root or a user namespace. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createNftablesRedirection } from "../../../src/cni/redirection/nftables.ts";
import { DEFAULT_REDIRECTION, type RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { runToolIn } from "../../../src/local/run_tool.ts";

const redirection = createNftablesRedirection(runToolIn);
const WITH_DNS: RedirectionSettings = { ...DEFAULT_REDIRECTION, dnsCapture: true };

async function withNetns(body: (netns: string) => Promise<void>): Promise<void> {
  const holder = spawn("unshare", ["--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep 60"]);
  try {
    const [line] = await once(holder.stdout, "data") as [Uint8Array];
    assert.equal(Buffer.from(line).toString(), "ready\n");
    await body(`/proc/${holder.pid}/ns/net`);
  } finally {
    holder.kill("SIGKILL");
  }
}

async function output(netns: string, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await runToolIn(netns, command);
  assert.equal(code, 0, stderr);
  return stdout;
}

/** `nft -j list ruleset`, an item a line, without what differs from run to run: handles, counts, and the version of nft. */
async function ruleset(netns: string): Promise<string> {
  const listing = await output(netns, "nft", "-j", "list", "ruleset");
  const variable: Readonly<Record<string, unknown>> = { handle: undefined, packets: 0, bytes: 0 };
  const { nftables } = JSON.parse(listing, (key, value) => key in variable ? variable[key] : value) as {
    nftables: object[];
  };
  return nftables.filter((item) => !("metainfo" in item)).map((item) => `${JSON.stringify(item)}\n`).join("");
}

async function routing(netns: string): Promise<string> {
  const tables = ["-4", "-6"].map(async (family) => {
    const rules = await output(netns, "ip", family, "rule", "list");
    const { stdout } = await runToolIn(netns, ["ip", family, "route", "show", "table", "100"]);
    return rules + stdout;
  });
  return (await Promise.all(tables)).join("");
}

for (const [name, settings] of [["default", DEFAULT_REDIRECTION], ["dns", WITH_DNS]] as const) {
  test(`nftables: the rules in the kernel are those of the golden file (${name})`, async () => {
    await withNetns(async (netns) => {
      await redirection.apply(netns, settings);
      const golden = await readFile(new URL(`./golden_${name}.txt`, import.meta.url), "utf8");
      assert.equal(await ruleset(netns), golden);
    });
  });
}

test("nftables: replies to ztunnel's spoofed sources are routed back into the pod, IPv4 and IPv6", async () => {
  await withNetns(async (netns) => {
    await redirection.apply(netns, DEFAULT_REDIRECTION);
    const text = await routing(netns);
    assert.equal(text.match(/32764:\s+from all fwmark 0x111\/0xfff lookup 100/g)?.length, 2);
    assert.equal(text.match(/local default dev lo/g)?.length, 2);
    assert.match(await output(netns, "ip", "route", "get", "192.0.2.1", "mark", "0x111"), /local 192\.0\.2\.1 dev lo/);
  });
});

test("nftables: applying again changes nothing, and other settings replace the old rules", async () => {
  await withNetns(async (netns) => {
    await redirection.apply(netns, DEFAULT_REDIRECTION);
    const once = [await ruleset(netns), await routing(netns)];
    await redirection.apply(netns, DEFAULT_REDIRECTION);
    assert.deepEqual([await ruleset(netns), await routing(netns)], once);
    await redirection.apply(netns, WITH_DNS);
    assert.notDeepEqual(await ruleset(netns), once[0]);
    await redirection.apply(netns, DEFAULT_REDIRECTION);
    assert.deepEqual([await ruleset(netns), await routing(netns)], once);
  });
});

test("nftables: remove leaves nothing, twice as well, and spares the rules of others", async () => {
  await withNetns(async (netns) => {
    await output(netns, "nft", "add table inet somebody; add chain inet somebody else");
    await output(netns, "ip", "rule", "add", "pref", "32764", "fwmark", "0x7", "lookup", "7");
    const before = [await ruleset(netns), await routing(netns)];
    await redirection.apply(netns, WITH_DNS);
    await redirection.remove(netns);
    assert.deepEqual([await ruleset(netns), await routing(netns)], before);
    await redirection.remove(netns);
    assert.deepEqual([await ruleset(netns), await routing(netns)], before);
  });
});

test("nftables: verify is content with what apply leaves, and names every kind of damage", async () => {
  await withNetns(async (netns) => {
    await redirection.apply(netns, DEFAULT_REDIRECTION);
    assert.deepEqual(await redirection.verify(netns, DEFAULT_REDIRECTION), []);

    const damages: [readonly string[], RegExp][] = [
      [["nft", "delete table inet istio-ambient-nat"], /chain istio-ambient-nat output is missing/],
      [["nft", "flush chain inet istio-ambient-nat istio-output"], /istio-ambient-nat istio-output has other rules/],
      [["nft", "insert rule inet istio-ambient-nat istio-output accept"], /istio-output has other rules/],
      [["nft", "add chain inet istio-ambient-mangle x"], /istio-ambient-mangle x does not belong/],
      [["nft", "chain inet istio-ambient-nat output { policy drop; }"], /output has another hook, priority or policy/],
      [["ip", "rule", "del", "pref", "32764"], /rule: fwmark 0x111\/0xfff pref 32764 lookup 100 is missing/],
      [["ip", "-6", "route", "flush", "table", "100"], /ip -6 route: local ::\/0 dev lo table 100 is missing/],
    ];
    for (const [damage, complaint] of damages) {
      await output(netns, ...damage);
      assert.match((await redirection.verify(netns, DEFAULT_REDIRECTION)).join("\n"), complaint);
      await redirection.apply(netns, DEFAULT_REDIRECTION);
      assert.deepEqual(await redirection.verify(netns, DEFAULT_REDIRECTION), [], `repaired: ${damage.join(" ")}`);
    }
  });
});

test("nftables: a namespace that is not there is an error that names it", async () => {
  await assert.rejects(redirection.apply("/proc/none/ns/net", DEFAULT_REDIRECTION), /\/proc\/none\/ns\/net/);
});
