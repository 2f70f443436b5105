/** The means of redirection of a node, chosen once at the agent's start, and how it runs tools in network namespaces. */
import { readChoice, writeChoice } from "./choice_file.ts";
import { detectIptables, type DetectLog, detectNativeNftables } from "./detect.ts";
import { createIptablesRedirection } from "./iptables.ts";
import { createNftablesRedirection } from "./nftables.ts";
import { PROBE_ADDRESS, type ProbeAddress, type Redirection } from "./redirection.ts";
import type { RunInNetns } from "./run_in_netns.ts";

export { createNetnsRunner } from "./netns_runner.ts";

export interface ChooseRedirectionOptions {
  readonly run: RunInNetns;
  /** NATIVE_NFTABLES. */
  readonly nativeNftables: boolean;
  /** FORCE_IPTABLES_BINARY. */
  readonly forceIptablesBinary: "legacy" | "nft" | "";
  /** AMBIENT_IPV6: without it a missing ip6tables is no matter. */
  readonly ipv6: boolean;
  /** AMBIENT_USE_SCOPED_XTABLES_LOCKING; default true. */
  readonly scopedXtablesLock?: boolean;
  /** The node's network namespace (`/host/proc/1/ns/net` with ALLOW_SWITCH_TO_HOST_NS); undefined: the process's own. */
  readonly enter?: string | undefined;
  /** Where the choice is remembered, as the agent's run directory; undefined: nowhere. */
  readonly stateDir: string | undefined;
  /** What kubelet's probes come from; default Istio's. */
  readonly probe?: ProbeAddress;
  readonly log: DetectLog;
}

/** Rejects when the node has no usable means, with what is wrong with each. */
export async function createRedirection(options: ChooseRedirectionOptions): Promise<Redirection> {
  const { run, log, ipv6, stateDir, forceIptablesBinary: force, probe = PROBE_ADDRESS } = options;
  const hostNetns = options.enter ?? "/proc/self/ns/net";
  const warn = (message: string) => log("warn", message);

  if (options.nativeNftables) {
    const { isUsable, reason } = await detectNativeNftables({ run, hostNetns, log });
    log(
      isUsable ? "info" : "warn",
      `redirection by ${isUsable ? "nftables" : "iptables although NATIVE_NFTABLES is set"}: ${reason}`,
    );
    if (isUsable) return createNftablesRedirection(run, { warn, probe });
  }
  const remembered = force === "" && stateDir !== undefined ? await readChoice(stateDir) : undefined;
  const { programs, reason } = await detectIptables({ run, hostNetns, ipv6, force, remembered, log });
  log("info", `redirection by ${programs.variant}: ${reason}`);
  if (force === "" && stateDir !== undefined && remembered !== programs.variant) {
    await writeChoice(stateDir, programs.variant).catch((error: Error) =>
      warn(`the choice of iptables cannot be remembered: ${error.message}`)
    );
  }
  return createIptablesRedirection(run, programs, { warn, probe, scopedLock: options.scopedXtablesLock ?? true });
}
