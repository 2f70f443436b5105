/** An HTTP server that does wrong, as a test wants it: a socket of the test in a pod, which writes what it is told. */
import type { Server } from "../../../e2e/support/lab.ts";
import type { Peer } from "../../../e2e/support/peer.ts";
import type { LabPod } from "../../../istiod/support/pod.ts";

export interface RawServer extends Server {
  /** Connections and requests so far. */
  readonly seen: { connections: number; requests: number };
}

/** `answer` gets every request's head, and may close or abort the connection; each connection carries several, unless it does. */
export function serveRaw(
  pod: LabPod,
  port: number,
  answer: (peer: Peer, head: string) => unknown,
  opened: (peer: Peer) => unknown = () => {},
): RawServer {
  const seen = { connections: 0, requests: 0 };
  const peers = new Set<Peer>();
  const serve = async (peer: Peer) => {
    await opened(peer);
    for (;;) {
      let head = "";
      while (!head.includes("\r\n\r\n")) head += await peer.read(1, 120_000);
      seen.requests++;
      await answer(peer, head);
    }
  };
  const server = pod.listen(port, (peer) => {
    seen.connections++;
    peers.add(peer);
    // Whatever ends the conversation ends the connection.
    serve(peer).catch(() => peer.close()).finally(() => peers.delete(peer));
  });
  return {
    seen,
    close() {
      server.close();
      for (const peer of peers) peer.close();
    },
  };
}
