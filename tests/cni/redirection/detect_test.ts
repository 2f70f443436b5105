/** Which means of redirection is chosen, on nodes that are network namespaces with the real tools; a missing tool is one that the runner does not find. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type ChooseRedirectionOptions, createRedirection } from "../../../src/cni/redirection/mod.ts";
import { type RunInNetns, ToolMissing } from "../../../src/cni/redirection/run_in_netns.ts";
import { everything, output, run, withNetns } from "./support.ts";

interface Choice {
  readonly backend: string;
  readonly log: readonly string[];
}

async function choose(node: string, options: Partial<ChooseRedirectionOptions> = {}): Promise<Choice> {
  const log: string[] = [];
  const redirection = await createRedirection({
    run,
    nativeNftables: false,
    forceIptablesBinary: "",
    ipv6: true,
    enter: node,
    stateDir: undefined,
    log: (level, message) => log.push(`${level}: ${message}`),
    ...options,
  });
  return { backend: redirection.describe(), log };
}

function without(missing: RegExp): RunInNetns {
  return (netns, command, input, env) => {
    const tool = command[0] ?? "";
    return missing.test(tool) ? Promise.reject(new ToolMissing(tool, undefined)) : run(netns, command, input, env);
  };
}

async function withStateDir(body: (stateDir: string) => Promise<void>): Promise<void> {
  const stateDir = await mkdtemp(join(tmpdir(), "redirection-"));
  try {
    await body(stateDir);
  } finally {
    await rm(stateDir, { recursive: true });
  }
}

const FOREIGN_LEGACY = ["iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.1", "-j", "ACCEPT"];

test("detection: rules of legacy iptables on the node mean legacy, tables without rules and rules of our own do not", async () => {
  await withNetns(async (node) => {
    assert.equal((await choose(node)).backend, "iptables-nft");
    await output(node, "iptables-legacy", "-t", "nat", "-L");
    await output(node, "ip6tables-legacy", "-t", "filter", "-L");
    assert.equal((await choose(node)).backend, "iptables-nft", "empty tables");
    await output(node, "iptables-legacy", "-t", "nat", "-N", "ISTIO_POSTRT");
    await output(node, "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-j", "ISTIO_POSTRT");
    await output(node, "iptables-legacy", "-t", "nat", "-A", "ISTIO_POSTRT", "-d", "192.0.2.1", "-j", "ACCEPT");
    assert.equal((await choose(node)).backend, "iptables-nft", "our own rules");
    await output(node, ...FOREIGN_LEGACY);
    assert.equal((await choose(node)).backend, "iptables-legacy");
  });
  await withNetns(async (node) => {
    await output(node, "ip6tables-legacy", "-t", "filter", "-A", "INPUT", "-j", "ACCEPT");
    assert.equal((await choose(node)).backend, "iptables-legacy", "rules for IPv6 count too");
  });
});

test("detection: leaves no trace on the node, so that the next one finds what this one found", async () => {
  await withNetns(async (node) => {
    const tables = () =>
      output(node, "cat", "/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names");
    const before = [await everything(node), await tables()];
    for (const options of [{}, { forceIptablesBinary: "legacy" as const }, { nativeNftables: true }]) {
      await choose(node, options);
    }
    assert.deepEqual([await everything(node), await tables()], before);
  });
});

test("detection: FORCE_IPTABLES_BINARY decides, and is an error when that one is not usable", async () => {
  await withNetns(async (node) => {
    assert.equal((await choose(node, { forceIptablesBinary: "legacy" })).backend, "iptables-legacy");
    await output(node, ...FOREIGN_LEGACY);
    assert.equal((await choose(node, { forceIptablesBinary: "nft" })).backend, "iptables-nft");
    await assert.rejects(
      choose(node, { forceIptablesBinary: "legacy", run: without(/legacy/) }),
      /FORCE_IPTABLES_BINARY is legacy, but cannot run iptables-legacy-restore.*package iptables/,
    );
  });
});

test("detection: the choice is kept over restarts, until it is not usable or the node was started again", async () => {
  await withNetns((node) =>
    withStateDir(async (stateDir) => {
      assert.equal((await choose(node, { stateDir })).backend, "iptables-nft");
      await output(node, ...FOREIGN_LEGACY);
      assert.equal((await choose(node, { stateDir })).backend, "iptables-nft", "rules that came later");
      const other = await choose(node, { stateDir, run: without(/tables-nft/) });
      assert.equal(other.backend, "iptables-legacy");
      assert.match(
        other.log.join("\n"),
        /warn: iptables-nft was chosen before and is not usable any more: cannot run iptables-nft/,
      );
      await output(node, "iptables-legacy", "-t", "nat", "-F");
      assert.equal(
        (await choose(node, { stateDir })).backend,
        "iptables-legacy",
        "the new choice is the one that is kept",
      );

      const file = join(stateDir, "redirection.json");
      const earlier = { ...JSON.parse(await readFile(file, "utf8")), boot: "an earlier start" };
      for (const text of [JSON.stringify(earlier), "{", '{"iptables":"none"}']) {
        await writeFile(file, text);
        assert.equal((await choose(node, { stateDir })).backend, "iptables-nft", text);
        await rm(file);
      }
    })
  );
});

test("detection: a directory that cannot be written to is a warning", async () => {
  await withNetns(async (node) => {
    const { backend, log } = await choose(node, { stateDir: "/proc/none" });
    assert.equal(backend, "iptables-nft");
    assert.match(log.join("\n"), /warn: the choice of iptables cannot be remembered/);
  });
});

test("detection: a missing ip6tables is no matter without IPv6, and an error with it", async () => {
  await withNetns(async (node) => {
    assert.equal((await choose(node, { ipv6: false, run: without(/^ip6tables/) })).backend, "iptables-nft");
    await assert.rejects(
      choose(node, { run: without(/^ip6tables/) }),
      /no iptables is usable: .*ip6tables-nft-restore/,
    );
  });
});

test("detection: a distribution's own name for iptables is the last resort", async () => {
  await withNetns(async (node) => {
    const { backend, log } = await choose(node, { run: without(/tables-(?:nft|legacy)/) });
    const version = await output(node, "iptables", "--version");
    assert.equal(backend, version.includes("nf_tables") ? "iptables-nft" : "iptables-legacy");
    assert.match(log.join("\n"), /the node has no other iptables/);
    await assert.rejects(
      choose(node, { run: without(/tables/) }),
      /no iptables is usable: .*iptables-nft.*; .*iptables-save/,
    );
  });
});

test("detection: a tool that says it has made a rule and has not is not used", async () => {
  await withNetns(async (node) => {
    const lying: RunInNetns = (netns, command, input, env) =>
      command[0] === "iptables-nft-restore"
        ? Promise.resolve({ code: 0, stdout: "", stderr: "" })
        : run(netns, command, input, env);
    await assert.rejects(
      choose(node, { run: lying, forceIptablesBinary: "nft" }),
      /iptables-nft-save does not show a rule that iptables-nft-restore has made/,
    );
  });
});

test("detection: native nftables, unless the node has the sets of an agent that used iptables", async () => {
  await withNetns(async (node) => {
    assert.equal((await choose(node, { nativeNftables: true })).backend, "nftables");
    assert.equal(
      (await choose(node, { nativeNftables: true, run: without(/ipset/) })).backend,
      "nftables",
      "no ipset, no sets",
    );
    await output(node, "ipset", "create", "istio-inpod-probes-v4", "hash:ip", "family", "inet", "comment");
    const { backend, log } = await choose(node, { nativeNftables: true });
    assert.equal(backend, "iptables-nft");
    assert.match(log.join("\n"), /warn: .*although NATIVE_NFTABLES is set: .*when the node is started again/);
  });
});

test("detection: an nft without JSON means iptables, one that fails otherwise is used with a warning", async () => {
  await withNetns(async (node) => {
    const saying = (code: number, stderr: string): RunInNetns => (netns, command, input, env) =>
      command[0] === "nft" ? Promise.resolve({ code, stdout: "", stderr }) : run(netns, command, input, env);
    const without = await choose(node, { nativeNftables: true, run: saying(1, "Error: JSON support not compiled-in") });
    assert.equal(without.backend, "iptables-nft");
    assert.match(without.log.join("\n"), /nft is built without JSON/);
    const failing = await choose(node, { nativeNftables: true, run: saying(1, "Error: no") });
    assert.equal(failing.backend, "nftables");
    assert.match(failing.log.join("\n"), /warn: nft --json list tables failed \(1\): Error: no/);
  });
});
