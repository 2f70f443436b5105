/** A node and a pod as namespaces, with the pod's interface, and a fake /proc in which kubelet is this test's user. */
import process from "node:process";
import {
  createHostRules,
  type HostBackend,
  type HostRules,
  type HostRulesOptions,
} from "../../../src/cni/host/host.ts";
import { createNetnsRunner } from "../../../src/cni/redirection/netns_runner.ts";
import type { RunInNetns } from "../../../src/cni/redirection/run_in_netns.ts";
import { FakeProc } from "../netns/support.ts";
import { Namespace } from "../support_netns.ts";

export const SNAT = { v4: "169.254.7.127", v6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff" } as const;
export const BACKENDS: readonly HostBackend[] = ["nftables", "iptables-nft", "iptables-legacy"];

export interface Scene {
  readonly node: Namespace;
  readonly proc: FakeProc;
  readonly lines: string[];
  /** Tools that were run. */
  readonly commands: string[];
  rules(backend: HostBackend, more?: Partial<HostRulesOptions>): HostRules;
  close(): void;
}

export async function createScene(): Promise<Scene> {
  const node = await Namespace.create();
  const proc = new FakeProc();
  const user = process.getuid?.() ?? 0;
  proc.add(50, {
    netns: "host",
    cgroup: "0::/system.slice/kubelet.service\n",
    comm: "kubelet",
    cmdline: ["/usr/bin/kubelet"],
    user,
  });
  const lines: string[] = [];
  const commands: string[] = [];
  const real = createNetnsRunner();
  const run: RunInNetns = (netns, command, input, env) => {
    commands.push(command.join(" "));
    return real(netns, command, input, env);
  };
  return {
    node,
    proc,
    lines,
    commands,
    rules: (backend, more = {}) =>
      createHostRules({
        backend,
        ipv6: true,
        snatV4: SNAT.v4,
        snatV6: SNAT.v6,
        enter: node.path,
        procRoot: proc.root,
        branchEni: false,
        run,
        log: (level, message, fields) => lines.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
        ...more,
      }),
    close() {
      node.close();
      proc.remove();
    },
  };
}

/** Everything that rules and sets of a namespace are made of, without counters. */
export function dump(node: Namespace): string {
  const text = node.run("sh", "-c", "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save; ipset save");
  return text.replace(/^#.*\n/gm, "").replace(/\[\d+:\d+\]/g, "").replace(/counter packets \d+ bytes \d+/g, "counter");
}
