/**
 * The result of the plugins before this one, in every version of the CNI specification: read into one model, and
 * written in the version of the configuration. Converts as CNI's Go library 1.3.0 does, lossy steps included.
 */
import { canonicalIp, formatIp, parseDecimal, parseIp } from "../../mesh/ip.ts";
import { asArray, asObject, isGiven, shownJson } from "../label_selector.ts";
import type { EventAddress } from "../plugin_event.ts";
import { type CniVersion, isSupported } from "./versions.ts";

/** Everything that versions 1.0.0 and 1.1.0 can say; older ones say less. */
export interface CniResult {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly EventAddress[];
  readonly routes: readonly ResultRoute[];
  readonly dns: ResultDns;
}

interface ResultInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciID?: string;
}

interface ResultRoute {
  readonly dst: string;
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

interface ResultDns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

/** Versions of one form: a result may say another version of its own form than the configuration does. */
const FORMS = [["0.1.0", "0.2.0"], ["0.3.0", "0.3.1", "0.4.0"], ["1.0.0", "1.1.0"]] as const;
type Form = 0 | 1 | 2;

function formOf(version: CniVersion): Form {
  return FORMS.findIndex((versions) => versions.some((name) => name === version)) as Form;
}

/**
 * Reads the `prevResult` of a configuration of this version.
 * @throws Error that names the field
 */
export function parseResult(value: unknown, confVersion: CniVersion): CniResult {
  const fields = asObject(value, "prevResult");
  const form = formOf(confVersion);
  // Before 1.0.0 a result need not say its version: it is the configuration's.
  const version = readText(fields, "cniVersion", "prevResult") ?? confVersion;
  if (!isSupported(version) || formOf(version) !== form) {
    throw new Error(`prevResult: version ${shownJson(version)} is not one of ${FORMS[form].join(", ")}`);
  }
  const dns = readDns(fields["dns"], "prevResult.dns");
  if (form === 0) return { ...readByFamily(fields), interfaces: [], dns };
  return {
    interfaces: readList(fields, "interfaces", "prevResult", (item, at) => readInterface(item, at, form)),
    ips: readList(fields, "ips", "prevResult", readIp),
    routes: readList(fields, "routes", "prevResult", readRoute),
    dns,
  };
}

/** The form of 0.1.0 and 0.2.0: one address of each family, routes with the address. */
function readByFamily(fields: Fields): Pick<CniResult, "ips" | "routes"> {
  const ips: EventAddress[] = [];
  const routes: ResultRoute[] = [];
  for (const family of ["ip4", "ip6"]) {
    if (!isGiven(fields[family])) continue;
    const place = `prevResult.${family}`;
    const config = asObject(fields[family], place);
    ips.push({
      interface: undefined,
      address: readCidr(config, "ip", place),
      gateway: readAddress(config, "gateway", place),
    });
    routes.push(...readList(config, "routes", place, readRoute));
  }
  return { ips, routes };
}

function readInterface(value: unknown, place: string, form: Form): ResultInterface {
  const fields = asObject(value, place);
  const common = {
    name: readText(fields, "name", place) ?? "",
    mac: readText(fields, "mac", place),
    sandbox: readText(fields, "sandbox", place),
  };
  if (form === 1) return common;
  return {
    ...common,
    mtu: readInteger(fields, "mtu", place) || undefined,
    socketPath: readText(fields, "socketPath", place),
    pciID: readText(fields, "pciID", place),
  };
}

function readIp(value: unknown, place: string): EventAddress {
  const fields = asObject(value, place);
  return {
    interface: readInteger(fields, "interface", place),
    address: readCidr(fields, "address", place),
    gateway: readAddress(fields, "gateway", place),
  };
}

function readRoute(value: unknown, place: string): ResultRoute {
  const fields = asObject(value, place);
  return {
    dst: readCidr(fields, "dst", place),
    gw: readAddress(fields, "gw", place),
    mtu: readInteger(fields, "mtu", place) || undefined,
    advmss: readInteger(fields, "advmss", place) || undefined,
    priority: readInteger(fields, "priority", place) || undefined,
    // Zero is a table and a scope.
    table: readInteger(fields, "table", place),
    scope: readInteger(fields, "scope", place),
  };
}

function readDns(value: unknown, place: string): ResultDns {
  if (!isGiven(value)) return {};
  const fields = asObject(value, place);
  const texts = (name: string) => {
    const list = readList(fields, name, place, (item, at) => {
      if (typeof item !== "string") throw new Error(`${at}: must be a string, is ${shownJson(item)}`);
      return item;
    });
    return list.length === 0 ? undefined : list;
  };
  return withoutUndefined({
    nameservers: texts("nameservers"),
    domain: readText(fields, "domain", place),
    search: texts("search"),
    options: texts("options"),
  });
}

/**
 * JSON for stdout, in this version; an undefined result is the empty one.
 * @throws Error when the version cannot express the result
 */
export function formatResult(result: CniResult | undefined, version: CniVersion): string {
  const { interfaces, ips, routes, dns } = result ?? { interfaces: [], ips: [], routes: [], dns: {} };
  const form = formOf(version);
  const head = { cniVersion: version };
  if (form === 0) return print({ ...head, ...byFamily(ips, routes), dns });
  const lists = {
    interfaces: notEmpty(
      form === 2 ? interfaces : interfaces.map(({ name, mac, sandbox }) => ({ name, mac, sandbox })),
    ),
    ips: notEmpty(form === 2 ? ips : ips.map((ip) => ({ version: isV6(ip.address) ? "6" : "4", ...ip }))),
    routes: notEmpty(routes),
  };
  // Before 1.0.0 the Go library writes an empty object.
  return print({ ...head, ...lists, dns: form === 1 || Object.keys(dns).length > 0 ? dns : undefined });
}

/** The first address of each family, and of the routes what these versions know. */
function byFamily(ips: readonly EventAddress[], routes: readonly ResultRoute[]): Record<string, unknown> {
  const of = (v6: boolean) => {
    const ip = ips.find(({ address }) => isV6(address) === v6);
    if (ip === undefined) return undefined;
    const own = routes.filter(({ dst }) => isV6(dst) === v6).map(({ dst, gw }) => ({ dst, gw }));
    return { ip: ip.address, gateway: ip.gateway, routes: notEmpty(own) };
  };
  const [ip4, ip6] = [of(false), of(true)];
  if (ip4 === undefined && ip6 === undefined) throw new Error("cannot convert: no valid IP addresses");
  return { ip4, ip6 };
}

function print(value: unknown): string {
  return JSON.stringify(value, null, 4) + "\n";
}

function notEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

function isV6(cidr: string): boolean {
  return cidr.includes(":");
}

type Fields = Readonly<Record<string, unknown>>;

function readList<T>(fields: Fields, name: string, place: string, read: (item: unknown, at: string) => T): T[] {
  if (!isGiven(fields[name])) return [];
  return asArray(fields[name], `${place}.${name}`).map((item, index) => read(item, `${place}.${name}[${index}]`));
}

/** Undefined when absent or empty. */
function readText(fields: Fields, name: string, place: string): string | undefined {
  const value = fields[name] ?? "";
  if (typeof value !== "string") throw new Error(`${place}.${name}: must be a string, is ${shownJson(value)}`);
  return value === "" ? undefined : value;
}

function readInteger(fields: Fields, name: string, place: string): number | undefined {
  const value = fields[name];
  if (!isGiven(value)) return undefined;
  if (!Number.isSafeInteger(value)) throw new Error(`${place}.${name}: must be an integer, is ${shownJson(value)}`);
  return value as number;
}

function readAddress(fields: Fields, name: string, place: string): string | undefined {
  const text = readText(fields, name, place);
  if (text === undefined) return undefined;
  const canonical = canonicalIp(text);
  if (canonical === undefined) throw new Error(`${place}.${name}: ${shownJson(text)} is no IP address`);
  return canonical;
}

/** Canonical, with its host bits: the pod's address in its network. */
function readCidr(fields: Fields, name: string, place: string): string {
  const text = readText(fields, name, place) ?? "";
  const slash = text.indexOf("/");
  const ip = slash < 0 ? undefined : parseIp(text.slice(0, slash));
  const bits = parseDecimal(text.slice(slash + 1), 3);
  const textBits = text.includes(":") ? 128 : 32;
  if (ip === undefined || bits === undefined || bits > textBits) {
    throw new Error(`${place}.${name}: ${shownJson(text)} is no address with a prefix length, such as 10.0.0.7/24`);
  }
  // An IPv4 address in IPv6 has its prefix counted from the IPv4 part on.
  return `${formatIp(ip)}/${Math.max(0, bits - (textBits - ip.length * 8))}`;
}

function withoutUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}
