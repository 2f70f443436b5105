/** The mesh's answer to a question for an address (reference ztunnel, section 8). Pure. */
import { addressesOf, type AddressFamily, type DnsMatch } from "../../mesh/dns.ts";
import { parseIp } from "../../mesh/ip.ts";
import type { MeshView } from "../../mesh/view.ts";
import { addressRecord, cnameRecord, type Question, type ResourceRecord, TYPE } from "../../protocol/dns/mod.ts";
import type { Answer } from "./answer_cache.ts";

export interface LocalSettings {
  readonly network: string;
  readonly ipv6Enabled: boolean;
  readonly ttlSeconds: number;
  /** [0, 1). */
  readonly random: () => number;
}

export interface LocalAnswer {
  readonly answer: Answer;
  /** For the log. */
  readonly result: "success" | "no records" | "service does not support this record type";
  readonly addresses: number;
}

/** `question` is for A or AAAA. A name that exists is never denied: without an address the answer is empty. */
export function answerLocally(
  view: MeshView,
  match: DnsMatch,
  question: Question,
  settings: LocalSettings,
): LocalAnswer {
  const family: AddressFamily = question.type === TYPE.AAAA ? "ipv6" : "ipv4";
  const { ipFamilies } = match.service;
  if ((family === "ipv6" && !settings.ipv6Enabled) || ipFamilies === (family === "ipv6" ? "IPv4" : "IPv6")) {
    return empty("service does not support this record type");
  }
  const addresses = addressesOf(view, match, settings.network, family);
  if (addresses.length === 0) return empty("no records");
  shuffle(addresses, settings.random);
  const { stripped } = match.alias;
  const { ttlSeconds } = settings;
  const answers: ResourceRecord[] = [];
  let owner = question.name;
  if (stripped !== undefined && !(match.kind === "service" && match.wildcard)) {
    // The client added a search domain; the name without it is the one that exists.
    const canonical = question.name.slice(0, stripped.length);
    answers.push(cnameRecord(owner, canonical, ttlSeconds));
    owner = canonical;
  }
  for (const ip of addresses) answers.push(addressRecord(owner, parseIp(ip)!, ttlSeconds));
  return { answer: { ...NOTHING, answers }, result: "success", addresses: addresses.length };
}

const NOTHING: Answer = { rcode: 0, authenticData: false, answers: [], authorities: [], additionals: [] };

function empty(result: LocalAnswer["result"]): LocalAnswer {
  return { answer: NOTHING, result, addresses: 0 };
}

/** Clients take the first: each address is first equally often. */
function shuffle(items: string[], random: () => number): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [items[i], items[j]] = [items[j], items[i]];
  }
}
