/** At start: can this process enter network namespaces and mark sockets? Without that no pod can be served, and it is better said now. */
import { describeErrno } from "../platform/errno.ts";
import { insideNamespace, openNamespace } from "../platform/netns.ts";
import { AF_INET } from "../platform/sockaddr.ts";
import { closeDescriptor, createTcpSocket, setMark } from "../platform/socket.ts";

const HINT = "ztunnel needs the capabilities NET_ADMIN and SYS_ADMIN";

/** @throws Error that says which of both failed */
export function proveNamespaceAccess(mark: number | undefined): void {
  const own = openNamespace("/proc/thread-self/ns/net");
  if (own < 0) throw new Error(`cannot open the own network namespace: ${describeErrno(-own)}`);
  const fd = insideNamespace(own, () => createTcpSocket(AF_INET));
  closeDescriptor(own);
  if (fd < 0) throw new Error(`cannot enter a network namespace: ${describeErrno(-fd)}; ${HINT}`);
  const marked = mark === undefined ? 0 : setMark(fd, mark);
  closeDescriptor(fd);
  if (marked < 0) throw new Error(`cannot mark a socket: ${describeErrno(-marked)}; ${HINT}`);
}
