/**
 * The main thread's side of the ztunnels' sockets (socket_worker.ts): starts the thread that watches them, and another one when it is lost.
 *
 * A namespace that is on its way to a ztunnel is held until the thread has sent it, or has closed the connection: its number could be given
 * out anew before, and a stranger's namespace would be sent.
 */
import { closeOwned, createOwnershipTable, ownerNumber } from "../../platform/ownership.ts";
import type { Thread, ThreadEvents } from "../../platform/thread.ts";
import type { PodNetns } from "../netns/pod_netns.ts";
import type { ZdsEvent, ZdsOrder, ZdsThreadStart } from "./messages.ts";

/** What one connection tells. */
export interface SocketHandler {
  message(bytes: Uint8Array, damage: string | undefined): void;
  sent(message: number, error: string | undefined): void;
  /** Once, also after `close`. */
  closed(reason: string, quiet: boolean): void;
}

export interface Socket {
  /** Takes over a reference to the namespace. */
  send(message: number, bytes: Uint8Array, netns: PodNetns | undefined): void;
  close(): void;
}

export interface SocketThreadOptions {
  /** Listening, and the caller's. */
  readonly listener: number;
  readonly acceptGapMs: number;
  readonly startThread: (start: ZdsThreadStart, events: ThreadEvents) => Thread;
  readonly accepted: (socket: Socket, pid: number, uid: number) => SocketHandler;
  readonly problem: (text: string) => void;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

const RESTART_MS = 1_000;

interface Entry {
  readonly handler: SocketHandler;
  readonly held: Map<number, PodNetns>;
}

export class SocketThread {
  readonly #options: SocketThreadOptions;
  readonly #ownership = createOwnershipTable();
  readonly #entries = new Map<number, Entry>();
  #generation = 0;
  #thread: Thread | undefined;
  #cancelRestart: () => void = () => {};
  #stopped = false;

  constructor(options: SocketThreadOptions) {
    this.#options = options;
    this.#start();
  }

  /** Closes all connections and ends the thread. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cancelRestart();
    this.#post({ do: "stop" });
    // A thread that has not begun to listen to orders does not end by one.
    if (this.#thread === undefined) this.#lost("the node agent ends", true);
  }

  #start(): void {
    const generation = ++this.#generation;
    const { acceptGapMs } = this.#options;
    const start: ZdsThreadStart = { generation, ownership: this.#ownership.buffer, acceptGapMs };
    this.#thread = this.#options.startThread(start, {
      message: (message) => this.#received(message as ZdsEvent),
      ended: (error) => {
        this.#thread = undefined;
        closeOwned(this.#ownership, ownerNumber(generation));
        if (this.#stopped) return this.#lost("the node agent ends", true);
        const reason = error?.stack ?? error?.message ?? "it ended by itself";
        this.#options.problem(
          `the thread that watches ztunnel's connections was lost, and is started again: ${reason}`,
        );
        this.#lost("the thread that watched the connection was lost", false);
        this.#cancelRestart = this.#options.schedule(() => this.#start(), RESTART_MS);
      },
    });
    this.#post({ do: "listen", fd: this.#options.listener });
  }

  #post(order: ZdsOrder): void {
    this.#thread?.post(order);
  }

  #received(event: ZdsEvent): void {
    switch (event.event) {
      case "started":
        return this.#thread?.setWakeFd(event.wakeFd);
      case "failed":
        return this.#options.problem(event.reason);
      case "accepted":
        return this.#accepted(event.connection, event.pid, event.uid);
    }
    const entry = this.#entries.get(event.connection);
    if (entry === undefined) return;
    switch (event.event) {
      case "message":
        return entry.handler.message(event.bytes, event.damage);
      case "sent":
        entry.held.get(event.message)?.release();
        entry.held.delete(event.message);
        return entry.handler.sent(event.message, event.error);
      case "closed":
        this.#entries.delete(event.connection);
        return end(entry, event.reason, event.quiet);
    }
  }

  #accepted(connection: number, pid: number, uid: number): void {
    const held = new Map<number, PodNetns>();
    const isOpen = () => this.#entries.has(connection);
    const socket: Socket = {
      send: (message, bytes, netns) => {
        if (!isOpen()) return netns?.release();
        if (netns !== undefined) held.set(message, netns);
        this.#post({ do: "send", connection, message, bytes, fd: netns?.fd ?? -1 });
      },
      close: () => {
        if (isOpen()) this.#post({ do: "close", connection });
      },
    };
    const handler: SocketHandler = { message() {}, sent() {}, closed() {} };
    this.#entries.set(connection, { handler, held });
    Object.assign(handler, this.#options.accepted(socket, pid, uid));
  }

  #lost(reason: string, quiet: boolean): void {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const entry of entries) end(entry, reason, quiet);
  }
}

function end({ handler, held }: Entry, reason: string, quiet: boolean): void {
  for (const netns of held.values()) netns.release();
  held.clear();
  handler.closed(reason, quiet);
}
