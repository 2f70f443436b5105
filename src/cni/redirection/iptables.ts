/**
 * Redirection by iptables, in either of its variants: one transaction a table and family, then the route for replies. A fresh pod
 * costs one program a family.
 */
import { type Inside, kernelHasIpv6, lookInside } from "./inside.ts";
import { iptablesDifferences, planRestore } from "./iptables_plan.ts";
import { type Family, iptablesRules } from "./iptables_rules.ts";
import {
  createIptablesTool,
  type IptablesPrograms,
  type IptablesTool,
  type IptablesToolOptions,
  PROGRAMS,
} from "./iptables_tool.ts";
import { createLeftovers, deleteEmptyTables, type Warn } from "./leftovers.ts";
import { PROBE_ADDRESS, type ProbeAddress, type Redirection, type RedirectionSettings } from "./redirection.ts";
import { applyReturnRoute, removeReturnRoute, verifyReturnRoute } from "./return_route.ts";
import type { RunInNetns } from "./run_in_netns.ts";
import { inTurns } from "./turns.ts";

/** Somebody else may have changed the same rules between look and change; then both are done again. */
const TRIES = 3;

export interface IptablesRedirectionOptions extends IptablesToolOptions {
  readonly probe?: ProbeAddress;
  readonly warn?: Warn;
}

/** `run` enters the pod's network namespace. The loopback device must be up there. */
export function createIptablesRedirection(
  run: RunInNetns,
  programs: IptablesPrograms,
  options: IptablesRedirectionOptions = {},
): Redirection {
  const tool = createIptablesTool(run, programs, options);
  const leftovers = createLeftovers(toolsOf(run, tool, options), options.warn ?? (() => {}));
  const probe = options.probe ?? PROBE_ADDRESS;
  const kept = (settings: RedirectionSettings) => ({ backend: tool.variant, families: familiesOf(settings) });

  return inTurns({
    describe: () => tool.variant,
    async apply(netns, settings) {
      applyReturnRoute(netns, settings.ipv6);
      let inside: Inside | undefined = lookInside(netns);
      for (const family of familiesOf(settings)) {
        const wanted = iptablesRules(family, settings, probe);
        for (let tries = 1;; tries++) {
          const text = planRestore(await tool.read(netns, family, inside ?? lookInside(netns)), wanted);
          if (text === "") break;
          try {
            await tool.restore(netns, family, text);
            break;
          } catch (error) {
            if (tries === TRIES) throw error;
            inside = undefined;
          }
        }
      }
      await leftovers.remove(netns, kept(settings));
      if (!settings.ipv6) removeReturnRoute(netns, "ipv6");
    },
    async verify(netns, settings) {
      const inside = lookInside(netns);
      const differences: string[] = [];
      for (const family of familiesOf(settings)) {
        const saved = await tool.read(netns, family, inside);
        differences.push(...iptablesDifferences(tool.name(family), saved, iptablesRules(family, settings, probe)));
      }
      return [
        ...differences,
        ...await leftovers.find(netns, kept(settings)),
        ...verifyReturnRoute(netns, settings.ipv6),
      ];
    },
    async remove(netns) {
      await leftovers.remove(netns, undefined);
      deleteEmptyTables(netns);
      removeReturnRoute(netns);
    },
  });
}

/** Both variants, the one in use by its own names. */
export function toolsOf(
  run: RunInNetns,
  own: IptablesTool | undefined,
  options: IptablesToolOptions,
): readonly IptablesTool[] {
  const others = Object.values(PROGRAMS).filter(({ variant }) => variant !== own?.variant);
  return [...(own === undefined ? [] : [own]), ...others.map((programs) => createIptablesTool(run, programs, options))];
}

function familiesOf({ ipv6 }: RedirectionSettings): readonly Family[] {
  return ipv6 && kernelHasIpv6() ? ["ipv4", "ipv6"] : ["ipv4"];
}
