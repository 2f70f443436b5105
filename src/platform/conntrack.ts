/**
 * Where a redirected datagram was going before netfilter rewrote it. The kernel tells that of TCP by a socket option, and of UDP only
 * through its table of connections: ctnetlink (linux/netfilter/nfnetlink_conntrack.h), asked by the tuple of the answer.
 */
import { EAGAIN } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { formatIp } from "../mesh/ip.ts";
import { AF_INET, AF_INET6, type SocketAddress } from "./sockaddr.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const NETLINK_NETFILTER = 12;
const NLM_F_REQUEST = 1;
/** NFNL_SUBSYS_CTNETLINK << 8, with IPCTNL_MSG_CT_NEW = 0 in answers and IPCTNL_MSG_CT_GET = 1 in questions. */
const CT_NEW = 0x100;
const CT_GET = 0x101;
const NLMSG_HEADER_BYTES = 16;
const NFGENMSG_BYTES = 4;
const NLA_HEADER_BYTES = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const IPPROTO_UDP = 17;

const request = new Uint8Array(new ArrayBuffer(256));
const requestView = new DataView(request.buffer);
const response = new Uint8Array(new ArrayBuffer(4096));
const responseView = new DataView(response.buffer);
let sequence = 0;

/** A socket for questions about the namespace the thread is in. Needs NET_ADMIN there. */
export function createConntrackSocket(): number {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  return fd < 0 ? -errnoWord[0] : fd;
}

/**
 * The first destination of the datagrams that `peer` sends to `local`; undefined when the kernel knows no such flow. Both are
 * addresses of one family as bytes. The kernel answers within the call.
 */
export function originalDatagramDestination(
  fd: number,
  peer: { readonly ip: Uint8Array; readonly port: number },
  local: { readonly ip: Uint8Array; readonly port: number },
): SocketAddress | undefined {
  const id = sequence = sequence + 1 | 0;
  const length = writeRequest(id, peer, local);
  if (libc.send(fd, request, length, 0) < 0) return undefined;
  // An answer that an earlier question did not wait for is passed over.
  for (let i = 0; i < 8; i++) {
    const n = libc.recv(fd, response, response.length, 0);
    const code = n < 0 ? errnoWord[0] : 0;
    if (code === EAGAIN || n < NLMSG_HEADER_BYTES) return undefined;
    if (responseView.getInt32(8, true) !== id) continue;
    return responseView.getUint16(4, true) === CT_NEW ? readOriginal(n) : undefined;
  }
  return undefined;
}

function writeRequest(
  id: number,
  peer: { readonly ip: Uint8Array; readonly port: number },
  local: { readonly ip: Uint8Array; readonly port: number },
): number {
  const v6 = peer.ip.length === 16;
  request.fill(0);
  requestView.setUint16(4, CT_GET, true);
  requestView.setUint16(6, NLM_F_REQUEST, true);
  requestView.setInt32(8, id, true);
  request[NLMSG_HEADER_BYTES] = v6 ? AF_INET6 : AF_INET;
  let at = NLMSG_HEADER_BYTES + NFGENMSG_BYTES;
  const attribute = (type: number, value: Uint8Array) => {
    requestView.setUint16(at, NLA_HEADER_BYTES + value.length, true);
    requestView.setUint16(at + 2, type, true);
    request.set(value, at + NLA_HEADER_BYTES);
    at += NLA_HEADER_BYTES + (value.length + 3 & ~3);
  };
  const nest = (type: number, fill: () => void) => {
    const start = at;
    at += NLA_HEADER_BYTES;
    fill();
    requestView.setUint16(start, at - start, true);
    requestView.setUint16(start + 2, type | NLA_F_NESTED, true);
  };
  nest(CTA_TUPLE_REPLY, () => {
    nest(CTA_TUPLE_IP, () => {
      attribute(v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, local.ip);
      attribute(v6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, peer.ip);
    });
    nest(CTA_TUPLE_PROTO, () => {
      attribute(CTA_PROTO_NUM, Uint8Array.of(IPPROTO_UDP));
      attribute(CTA_PROTO_SRC_PORT, bigEndian(local.port));
      attribute(CTA_PROTO_DST_PORT, bigEndian(peer.port));
    });
  });
  requestView.setUint32(0, at, true);
  return at;
}

function bigEndian(port: number): Uint8Array {
  return Uint8Array.of(port >> 8, port & 0xff);
}

function readOriginal(end: number): SocketAddress | undefined {
  const tuple = find(NLMSG_HEADER_BYTES + NFGENMSG_BYTES, end, CTA_TUPLE_ORIG);
  const ip = tuple && find(tuple.start, tuple.end, CTA_TUPLE_IP);
  const proto = tuple && find(tuple.start, tuple.end, CTA_TUPLE_PROTO);
  const address = ip && (find(ip.start, ip.end, CTA_IP_V4_DST) ?? find(ip.start, ip.end, CTA_IP_V6_DST));
  const port = proto && find(proto.start, proto.end, CTA_PROTO_DST_PORT);
  if (address === undefined || port === undefined || port.end - port.start < 2) return undefined;
  const bytes = response.subarray(address.start, address.end);
  if (bytes.length !== 4 && bytes.length !== 16) return undefined;
  return { ip: formatIp(bytes), port: responseView.getUint16(port.start, false) };
}

function find(start: number, end: number, type: number): { readonly start: number; readonly end: number } | undefined {
  for (let at = start; at + NLA_HEADER_BYTES <= end;) {
    const length = responseView.getUint16(at, true);
    if (length < NLA_HEADER_BYTES || at + length > end) return undefined;
    if ((responseView.getUint16(at + 2, true) & NLA_TYPE_MASK) === type) {
      return { start: at + NLA_HEADER_BYTES, end: at + length };
    }
    at += length + 3 & ~3;
  }
  return undefined;
}
