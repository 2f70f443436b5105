/** What the thread of the ztunnels' sockets runs: a reactor that blocks until a socket, or the main thread, has something to say. */
import type { ThreadPort } from "../../platform/thread.ts";
import { Reactor } from "../../net/reactor.ts";
import { ownerNumber } from "../../platform/ownership.ts";
import type { ZdsEvent, ZdsOrder, ZdsThreadStart } from "./messages.ts";
import { ZdsSockets } from "./socket_worker.ts";

/**
 * Runs until it is told to stop. The reactor's own descriptors are left to the main thread, which closes all that this thread had noted:
 * it may be raising the wake-up while this one ends.
 */
export function runZdsThread(port: ThreadPort): void {
  const start = port.data as ZdsThreadStart;
  const note = { table: new Uint8Array(start.ownership), owner: ownerNumber(start.generation) };
  const post = (event: ZdsEvent) => port.post(event);
  const reactor: Reactor = new Reactor(() => performance.now(), () => {
    for (let taken = port.take(); taken !== undefined; taken = port.take()) sockets.handle(taken.message as ZdsOrder);
  }, note);
  const sockets = new ZdsSockets(reactor, start, post);
  post({ event: "started", wakeFd: reactor.wakeFd });
  reactor.run();
}
