/**
 * Probes of pods behind a branch interface of AWS (security groups for pods), reference cni.md section 5.2. Such a pod's packets take the
 * cloud's network, which drops the link-local source that probes get, so both directions are led through the pod's own interface.
 *
 * Nothing is done, or even looked at, on nodes without the setting that AWS asks for on such nodes.
 */
import { isIpv6 } from "../../mesh/ip.ts";
import { type RunInNetns, runOrThrow } from "../redirection/run_in_netns.ts";

export interface BranchEniOptions {
  readonly run: RunInNetns;
  readonly netns: string;
  /** net.ipv4.tcp_early_demux of the node; undefined: it cannot be read. */
  readonly earlyDemux: () => string | undefined;
}

export interface BranchEni {
  /** Adds the rules of those addresses that need them. @throws Error when a rule cannot be added; then none of that address is left */
  add(ips: readonly string[]): Promise<void>;
  /** Removes what was added for them. Never rejects: what is gone is gone. */
  remove(ips: readonly string[]): Promise<void>;
  /** Rules that are missing, one line each. */
  verify(): Promise<string[]>;
  repair(): Promise<void>;
  tearDown(): Promise<void>;
}

/** The network plugin's own rule: packets that come from the interface look up the table. */
interface BranchRoute {
  readonly table: number;
  readonly device: string;
  readonly priority: number;
}

interface ListedRule {
  readonly priority: number;
  readonly iif?: string;
  readonly dst?: string;
  readonly table?: string;
}

interface ListedRoute {
  readonly dst: string;
  readonly dev?: string;
}

/** What the network plugin uses for ordinary pods. */
const TO_POD_PRIORITY = 512;
const MAIN_TABLE = 254;
const LOCAL_TABLE = 255;

export function createBranchEni({ run, netns, earlyDemux }: BranchEniOptions): BranchEni {
  const routes = new Map<string, BranchRoute>();
  let isGateOpen: boolean | undefined;

  const ip = (address: string, ...words: string[]) => ["ip", "-N", isIpv6(address) ? "-6" : "-4", ...words];
  const list = async <T>(command: readonly string[]): Promise<readonly T[]> => {
    const text = (await runOrThrow(run, netns, command)).trim();
    return text === "" ? [] : JSON.parse(text) as T[];
  };
  const rulesOf = (address: string) => list<ListedRule>(ip(address, "-j", "rule", "list"));

  const detect = async (address: string): Promise<BranchRoute | undefined> => {
    const rules = (await rulesOf(address)).filter(({ iif, table }) => {
      const number = Number(table);
      return iif !== undefined && number > 0 && number !== MAIN_TABLE && number !== LOCAL_TABLE;
    });
    for (const table of new Set(rules.map((rule) => Number(rule.table)))) {
      const inTable = await list<ListedRoute>(ip(address, "-j", "route", "show", "table", String(table)));
      // A route to one address is printed without a length.
      for (const { dev } of inTable.filter(({ dst }) => dst === address)) {
        const rule = rules.find((one) => Number(one.table) === table && one.iif === dev);
        if (rule?.iif !== undefined) return { table, device: rule.iif, priority: Math.max(0, rule.priority - 1) };
      }
    }
    return undefined;
  };

  const toPod = (address: string, { table }: BranchRoute) => {
    const length = isIpv6(address) ? 128 : 32;
    return ["to", `${address}/${length}`, "lookup", String(table), "pref", String(TO_POD_PRIORITY)];
  };
  const fromPod = (
    { device, priority }: BranchRoute,
  ) => ["iif", device, "lookup", String(LOCAL_TABLE), "pref", String(priority)];

  /** False: it was there already. */
  const addRule = async (address: string, words: readonly string[]): Promise<boolean> => {
    const command = ip(address, "rule", "add", ...words);
    const { code, stderr } = await run(netns, command, "");
    if (code === 0) return true;
    if (/File exists/.test(stderr)) return false;
    throw new Error(`"${command.join(" ")}" in ${netns} failed (${code ?? "killed"}): ${stderr.trim()}`);
  };
  const deleteRule = async (address: string, words: readonly string[]) =>
    void (await run(netns, ip(address, "rule", "del", ...words), ""));

  const addRules = async (address: string, route: BranchRoute) => {
    const isNew = await addRule(address, toPod(address, route));
    try {
      await addRule(address, fromPod(route));
    } catch (error) {
      if (isNew) await deleteRule(address, toPod(address, route));
      throw error;
    }
  };

  const remove = async (address: string) => {
    const route = routes.get(address);
    if (route === undefined) return;
    routes.delete(address);
    await deleteRule(address, toPod(address, route));
    await deleteRule(address, fromPod(route));
  };

  const missing = async (address: string, route: BranchRoute): Promise<string[]> => {
    const rules = await rulesOf(address);
    const lines: string[] = [];
    const has = (test: (rule: ListedRule) => boolean) => rules.some(test);
    const { table, device, priority } = route;
    if (!has((rule) => rule.dst === address && Number(rule.table) === table && rule.priority === TO_POD_PRIORITY)) {
      lines.push(`ip rule: ${toPod(address, route).join(" ")} is missing`);
    }
    if (!has((rule) => rule.iif === device && Number(rule.table) === LOCAL_TABLE && rule.priority === priority)) {
      lines.push(`ip rule: ${fromPod(route).join(" ")} is missing`);
    }
    return lines;
  };

  return {
    async add(ips) {
      isGateOpen ??= earlyDemux()?.startsWith("0") ?? false;
      if (!isGateOpen) return;
      for (const address of ips) {
        const route = await detect(address);
        if (route === undefined) continue;
        await remove(address);
        await addRules(address, route);
        routes.set(address, route);
      }
    },
    async remove(ips) {
      for (const address of ips) await remove(address);
    },
    async verify() {
      const lines: string[] = [];
      for (const [address, route] of routes) lines.push(...await missing(address, route));
      return lines;
    },
    async repair() {
      for (const [address, route] of routes) {
        if ((await missing(address, route)).length > 0) await addRules(address, route);
      }
    },
    async tearDown() {
      for (const address of [...routes.keys()]) await remove(address);
    },
  };
}
