/**
 * A quick look at a namespace's nftables without a program (linux/netfilter/nf_tables.h): which tables and chains there are, not
 * what is in them; and the removal of whole tables. Functions take a NETLINK_NETFILTER socket.
 */
import {
  beU32Attribute,
  joinBytes,
  netlinkDump,
  netlinkGet,
  netlinkMessage,
  NLM_F_ACK,
  readAttributes,
  readText,
  readU32,
  receiveAck,
  sendNetlink,
  textAttribute,
} from "./netlink.ts";

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETTABLE = 1;
const NFT_MSG_DELTABLE = 2;
const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_DELCHAIN = 5;
const NFT_MSG_GETGEN = 16;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const NFNL_BATCH_GENID = 1;
const NFTA_GEN_ID = 1;
const NFTA_TABLE_NAME = 1;
const NFTA_TABLE_USE = 3;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_USE = 6;
const NFTA_CHAIN_TYPE = 7;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;
const NF_ACCEPT = 1;
/** `struct nfgenmsg`: family, version, resource. */
const NFGENMSG_BYTES = 4;

export const NFT_INET = 1;
export const NFT_IPV4 = 2;
export const NFT_IPV6 = 10;

export interface NftTableInfo {
  readonly family: number;
  readonly name: string;
  /** Chains, sets and other things in it. */
  readonly use: number;
}

export interface NftChainInfo {
  readonly family: number;
  readonly table: string;
  readonly name: string;
  /** Rules in it, and jumps to it. */
  readonly use: number;
  /** Present when the kernel enters it. */
  readonly base:
    | { readonly type: string; readonly hook: number; readonly priority: number; readonly accepts: boolean }
    | undefined;
}

export interface NftState {
  /** Changes with every transaction of the namespace. */
  readonly generation: number;
  readonly tables: readonly NftTableInfo[];
  readonly chains: readonly NftChainInfo[];
}

/** All tables and chains; `-errno` when the kernel does not tell, as one without nftables. */
export function readNftState(fd: number): NftState | number {
  while (true) {
    const generation = readGeneration(fd);
    if (generation < 0) return generation;
    const tables = netlinkDump(fd, message(NFT_MSG_GETTABLE), general(0));
    if (typeof tables === "number") return tables;
    const chains = netlinkDump(fd, message(NFT_MSG_GETCHAIN), general(0));
    if (typeof chains === "number") return chains;
    if (readGeneration(fd) !== generation) continue;
    return {
      generation,
      tables: tables.map(({ body }) => readTable(body)),
      chains: chains.map(({ body }) => readChain(body)),
    };
  }
}

/** Removes whole tables, and chains of others, in one transaction, unless anything of the namespace has changed since `generation`. 0, or `-errno`. */
export function deleteNft(
  fd: number,
  generation: number,
  tables: readonly Pick<NftTableInfo, "family" | "name">[],
  chains: readonly Pick<NftChainInfo, "family" | "table" | "name">[],
): number {
  const orders = [
    ...chains.map(({ family, table, name }) => ({
      type: NFT_MSG_DELCHAIN,
      body: [general(family), textAttribute(NFTA_CHAIN_TABLE, table), textAttribute(NFTA_CHAIN_NAME, name)],
    })),
    ...tables.map(({ family, name }) => ({
      type: NFT_MSG_DELTABLE,
      body: [general(family), textAttribute(NFTA_TABLE_NAME, name)],
    })),
  ];
  const begin = [general(0, NFNL_SUBSYS_NFTABLES), beU32Attribute(NFNL_BATCH_GENID, generation)];
  const sent = sendNetlink(
    fd,
    joinBytes([
      netlinkMessage(NFNL_MSG_BATCH_BEGIN, 0, joinBytes(begin), 0),
      ...orders.map(({ type, body }, index) =>
        netlinkMessage(message(type), index === orders.length - 1 ? NLM_F_ACK : 0, joinBytes(body), index + 1)
      ),
      netlinkMessage(NFNL_MSG_BATCH_END, 0, general(0, NFNL_SUBSYS_NFTABLES), orders.length + 1),
    ]),
  );
  return sent < 0 ? sent : receiveAck(fd, orders.length);
}

function readGeneration(fd: number): number {
  const answer = netlinkGet(fd, message(NFT_MSG_GETGEN), general(0));
  if (typeof answer === "number") return answer;
  return readU32(readAttributes(answer.body, NFGENMSG_BYTES).get(NFTA_GEN_ID), false);
}

function readTable(body: Uint8Array): NftTableInfo {
  const attributes = readAttributes(body, NFGENMSG_BYTES);
  return {
    family: body[0],
    name: readText(attributes.get(NFTA_TABLE_NAME)),
    use: readU32(attributes.get(NFTA_TABLE_USE), false),
  };
}

function readChain(body: Uint8Array): NftChainInfo {
  const attributes = readAttributes(body, NFGENMSG_BYTES);
  const hook = attributes.get(NFTA_CHAIN_HOOK);
  return {
    family: body[0],
    table: readText(attributes.get(NFTA_CHAIN_TABLE)),
    name: readText(attributes.get(NFTA_CHAIN_NAME)),
    use: readU32(attributes.get(NFTA_CHAIN_USE), false),
    base: hook && {
      type: readText(attributes.get(NFTA_CHAIN_TYPE)),
      hook: readU32(readAttributes(hook).get(NFTA_HOOK_HOOKNUM), false),
      priority: readU32(readAttributes(hook).get(NFTA_HOOK_PRIORITY), false) | 0,
      accepts: readU32(attributes.get(NFTA_CHAIN_POLICY), false) === NF_ACCEPT,
    },
  };
}

function message(type: number): number {
  return NFNL_SUBSYS_NFTABLES << 8 | type;
}

/** The resource is in network order. */
function general(family: number, resource = 0): Uint8Array {
  return Uint8Array.of(family, 0, resource >> 8, resource & 0xff);
}
