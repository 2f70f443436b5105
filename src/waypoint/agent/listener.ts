/** The socket on which tunnels come in: the main thread's, watched by every worker. */
import { SocketFactory } from "../../net/socket_factory.ts";
import { describeErrno, EADDRINUSE } from "../../platform/errno.ts";
import { closeDescriptor, localAddress } from "../../platform/socket.ts";

export interface TunnelListener {
  readonly fd: number;
  readonly port: number;
  close(): void;
}

/** ztunnel's: long-lived tunnels whose peer's node is gone are found by it. */
const KEEPALIVE = { idleSeconds: 180, intervalSeconds: 180, probes: 9 };

/** @throws Error that says what to do */
export function openTunnelListener(port: number, ipv6Enabled: boolean): TunnelListener {
  const factory = new SocketFactory(-1, undefined, { keepalive: KEEPALIVE, userTimeoutMs: undefined });
  const options = { port, reusePort: false, transparent: false } as const;
  let { fd } = factory.listen({ ...options, ipv6Enabled });
  // A machine without IPv6.
  if (fd < 0 && ipv6Enabled && -fd !== EADDRINUSE) ({ fd } = factory.listen({ ...options, ipv6Enabled: false }));
  if (fd < 0) {
    const hint = -fd === EADDRINUSE ? "; another proxy listens there" : "";
    throw new Error(`cannot listen on port ${port}: ${describeErrno(-fd)}${hint}`);
  }
  return { fd, port: localAddress(fd)?.port ?? port, close: () => closeDescriptor(fd) };
}
