/**
 * The process that holds a test mesh's namespaces: it runs as init of its own process, mount and network namespace, wires nodes and
 * pods there, and ends with its standard input, taking everything below it along, however the test process ended.
 *
 * Takes one JSON object a line (HostRequest); answers each with `{}` or `{"error": text}`. The argument is the directory for
 * the namespaces' files.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { createNftablesRedirection } from "../../../src/cni/redirection/nftables.ts";
import { DEFAULT_REDIRECTION, type RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { runToolIn } from "../../../src/local/run_tool.ts";
import { type NodeSite, type PodSite, Topology } from "../../../src/local/topology.ts";

export interface HostRequest {
  readonly nodes: readonly NodeSite[];
  readonly pods: readonly PodSite[];
  /** Uids of the pods whose traffic goes through their node's ztunnel. */
  readonly captured: readonly string[];
  /** How they are redirected, where that is not the default. */
  readonly redirection?: Partial<RedirectionSettings>;
  /** Uids of pods and names of nodes that are taken away before the others are made. */
  readonly removed?: { readonly pods: readonly string[]; readonly nodes: readonly string[] };
}

if (import.meta.main) {
  const topology = await Topology.create(process.argv[2] ?? "");
  const redirection = createNftablesRedirection(runToolIn);
  const answer = (value: { readonly error?: string }) => process.stdout.write(`${JSON.stringify(value)}\n`);
  answer({});
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const { nodes, pods, captured, redirection: settings, removed } = JSON.parse(line) as HostRequest;
      for (const uid of removed?.pods ?? []) await topology.removePod(uid);
      for (const name of removed?.nodes ?? []) await topology.removeNode(name);
      await topology.add(nodes, pods);
      const rules = { ...DEFAULT_REDIRECTION, ...settings };
      await Promise.all(captured.map((uid) => redirection.apply(topology.podNetns(uid), rules)));
      answer({});
    } catch (error) {
      answer({ error: error instanceof Error ? error.message : String(error) });
    }
  }
  process.exit(0);
}
