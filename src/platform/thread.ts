/**
 * Worker threads and the ordered channel between each of them and the main thread.
 *
 * A worker blocks in its reactor, so nothing is delivered to it by event: the main thread posts, then raises the worker's
 * eventfd, and the worker takes all that was posted, synchronously. A worker's own posts reach the main thread as events, or
 * earlier, when it looks for them in the middle of long work.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker, workerData } from "node:worker_threads";
import { signalEventFd } from "./epoll.ts";

interface ThreadData {
  readonly port: MessagePort;
  readonly data: unknown;
}

/** Taken at once; a worker that posts faster than that waits for the event loop. */
const MAX_TAKEN = 256;

/** What a worker posts: an event may be on its way already when what was posted behind it is taken. */
type Numbered = readonly [number: number, message: unknown];

/** The main thread's end of a worker. */
export interface Thread {
  /** Posts in order; wakes the worker when its eventfd is known. */
  post(message: unknown): void;
  /** The worker's eventfd, which it reports in its first message. */
  setWakeFd(fd: number): void;
  /** Handles what the worker has posted by now, in order, and does not wait for the event loop to come round. */
  take(): void;
  /**
   * Ends the thread where it stands, as far as the runtime can: measured, Deno reports its end at once but lets code that runs, or
   * waits in the kernel, go on. Its descriptors stay open: they belong to the process.
   */
  terminate(): void;
}

export interface ThreadEvents {
  message(message: unknown): void;
  /** The thread is gone, once; `error` is set when it threw. */
  ended(error: Error | undefined): void;
}

/** Starts `entry`, a module that calls `threadPort`. `data` must be cloneable. */
export function startThread(entry: URL, data: unknown, events: ThreadEvents): Thread {
  const channel = new MessageChannel();
  const worker = new Worker(entry, {
    workerData: { port: channel.port2, data } satisfies ThreadData,
    transferList: [channel.port2],
  });
  let wakeFd = -1;
  let failure: Error | undefined;
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    wakeFd = -1;
    channel.port1.close();
    events.ended(failure);
  };
  /** Number of the next message to handle, and those that overtook it. */
  let next = 0;
  let handling = false;
  const early = new Map<number, unknown>();
  const receive = ([number, message]: Numbered) => {
    early.set(number, message);
    // Within a handler: what it takes comes after it.
    if (handling) return;
    handling = true;
    try {
      while (!ended && early.has(next)) {
        const due = early.get(next);
        early.delete(next++);
        events.message(due);
      }
    } finally {
      handling = false;
    }
  };
  channel.port1.on("message", receive);
  worker.on("error", (error) => {
    failure = error instanceof Error ? error : new Error(String(error));
    end();
  });
  worker.on("exit", end);
  return {
    post(message) {
      if (ended) return;
      channel.port1.postMessage(message);
      if (wakeFd !== -1) signalEventFd(wakeFd);
    },
    setWakeFd(fd) {
      wakeFd = fd;
      signalEventFd(fd);
    },
    take() {
      for (let i = 0; i < MAX_TAKEN && !ended; i++) {
        const posted = receiveMessageOnPort(channel.port1) as { message: Numbered } | undefined;
        if (posted === undefined) return;
        try {
          receive(posted.message);
        } catch (error) {
          // As from an event: it is no failure of whoever looks for messages.
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
    terminate() {
      worker.terminate();
    },
  };
}

/** The worker's end. */
export interface ThreadPort {
  readonly data: unknown;
  post(message: unknown): void;
  /** The next posted message, or undefined when none is left. */
  take(): { readonly message: unknown } | undefined;
}

/** Called once in a worker's entry module. */
export function threadPort(): ThreadPort {
  const { port, data } = workerData as ThreadData;
  let posted = 0;
  return {
    data,
    post: (message) => port.postMessage([posted++, message] satisfies Numbered),
    take: () => receiveMessageOnPort(port) as { message: unknown } | undefined,
  };
}
