/**
 * The process that holds a test mesh's namespaces: it runs as init of its own process, mount and network namespace, wires nodes and
 * pods there, and ends with its standard input, taking everything below it along, however the test process ended.
 *
 * Takes one JSON object a line: `{nodes, pods, captured}`; answers each with `{}` or `{"error": text}`. The argument is the
 * directory for the namespaces' files.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { createNftablesRedirection } from "../../../src/cni/redirection/nftables.ts";
import { DEFAULT_REDIRECTION } from "../../../src/cni/redirection/redirection.ts";
import { runToolIn } from "../../../src/local/run_tool.ts";
import { type NodeSite, type PodSite, Topology } from "../../../src/local/topology.ts";

export interface HostRequest {
  readonly nodes: readonly NodeSite[];
  readonly pods: readonly PodSite[];
  /** Uids of the pods whose traffic goes through their node's ztunnel. */
  readonly captured: readonly string[];
}

if (import.meta.main) {
  const topology = await Topology.create(process.argv[2] ?? "");
  const redirection = createNftablesRedirection(runToolIn);
  const answer = (value: { readonly error?: string }) => process.stdout.write(`${JSON.stringify(value)}\n`);
  answer({});
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const { nodes, pods, captured } = JSON.parse(line) as HostRequest;
      await topology.add(nodes, pods);
      await Promise.all(captured.map((uid) => redirection.apply(topology.podNetns(uid), DEFAULT_REDIRECTION)));
      answer({});
    } catch (error) {
      answer({ error: error instanceof Error ? error.message : String(error) });
    }
  }
  process.exit(0);
}
