/**
 * What the plugin tells the agent about a new pod: JSON in Go's form, reference cni.md 2.3. Pure.
 *
 * Both sides may be Istio's own, so the field names are Go's, and any case of them is read.
 */
import { canonicalIp } from "../mesh/ip.ts";
import { asArray, asObject, isGiven, shownJson } from "./label_selector.ts";

/** Path of the request on the agent's socket. */
export const CNI_ADD_PATH = "/cmdadd";
/** Path of the plugin's log on the agent's log socket. */
export const LOG_PATH = "/log";

export interface CniAddEvent {
  /** As the container runtime named it: a path of the host. */
  readonly netns: string;
  readonly podName: string;
  readonly podNamespace: string;
  /** Canonical; IPv4 in IPv6 is IPv4. */
  readonly ips: readonly string[];
}

/** An address of the pod with what Istio's plugin says besides; its agent does not read that. */
export interface EventAddress {
  /** Index into the result's interfaces. */
  readonly interface: number | undefined;
  /** `10.0.0.7/24`, host bits kept. */
  readonly address: string;
  readonly gateway: string | undefined;
}

/** Undefined addresses: no plugin before this one gave a result. */
export function encodeAddEvent(
  event: Omit<CniAddEvent, "ips">,
  addresses: readonly EventAddress[] | undefined,
): string {
  const ips = (addresses ?? []).map((item) => {
    const slash = item.address.indexOf("/");
    const ip = slash < 0 ? item.address : item.address.slice(0, slash);
    return {
      Interface: item.interface ?? null,
      Address: { IP: ip, Mask: slash < 0 ? null : maskOf(ip, Number(item.address.slice(slash + 1))) },
      Gateway: item.gateway ?? "",
    };
  });
  return JSON.stringify({
    Netns: event.netns,
    PodName: event.podName,
    PodNamespace: event.podNamespace,
    IPs: ips.length === 0 ? null : ips,
  });
}

/** Base64 of the mask's bytes. */
function maskOf(ip: string, prefixLength: number): string {
  const mask = new Uint8Array(ip.includes(":") ? 16 : 4);
  for (let bit = 0; bit < prefixLength; bit++) mask[bit >> 3] |= 0x80 >> (bit & 7);
  return btoa(String.fromCharCode(...mask));
}

/** @throws Error that names the field. */
export function decodeAddEvent(text: string): CniAddEvent {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new Error(`CNI event: ${(error as Error).message}`);
  }
  const event = foldCase(asObject(parsed, "CNI event"));
  const list = event.get("ips");
  return {
    netns: readText(event, "Netns"),
    podName: readText(event, "PodName"),
    podNamespace: readText(event, "PodNamespace"),
    ips: isGiven(list) ? asArray(list, "CNI event: IPs").map((item, index) => readIp(item, `IPs[${index}]`)) : [],
  };
}

function readIp(value: unknown, name: string): string {
  const place = `CNI event: ${name}`;
  const address = foldCase(asObject(value, place)).get("address");
  const ip = foldCase(asObject(address, `${place}.Address`)).get("ip");
  const canonical = typeof ip === "string" ? canonicalIp(ip) : undefined;
  if (canonical === undefined) throw new Error(`${place}.Address.IP: ${shownJson(ip)} is no IP address`);
  return canonical;
}

function readText(event: ReadonlyMap<string, unknown>, name: string): string {
  const value = event.get(name.toLowerCase());
  if (typeof value !== "string" || value === "") {
    throw new Error(`CNI event: ${name}: must be a string that is not empty, is ${shownJson(value)}`);
  }
  return value;
}

/** Fields by their names in lower case; the last of several wins, as in Go. */
function foldCase(fields: Readonly<Record<string, unknown>>): ReadonlyMap<string, unknown> {
  return new Map(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), value]));
}
