/**
 * The ZDS server, reference cni.md section 3.8 and ztunnel.md section 2: tells the ztunnels of this node which pods there are, and
 * hands them their network namespaces. A new pod is for the newest ztunnel, a deleted one is for all.
 */
import { randomUUID } from "node:crypto";
import type { Thread, ThreadEvents } from "../../platform/thread.ts";
import type { ZdsWorkload } from "../../protocol/zds.ts";
import type { PodNetns } from "../netns/pod_netns.ts";
import type { Ask, SnapshotPod } from "./ask.ts";
import { Conversation, type ConversationHost, DEADLINE_MS } from "./conversation.ts";
import { listenZds } from "./listen.ts";
import type { ZdsThreadStart } from "./messages.ts";
import { type Socket, type SocketHandler, SocketThread } from "./socket_thread.ts";

export interface ZdsPod {
  readonly uid: string;
  readonly workload: ZdsWorkload;
  readonly netns: PodNetns;
}

export interface ZdsConnectionInfo {
  /** Unique. */
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly sinceMs: number;
  /** Process and user at the other end, as the kernel knows them; -1: unknown. */
  readonly pid: number;
  readonly uid: number;
  /** The whole snapshot is acknowledged. */
  readonly snapshotSent: boolean;
  /** Whether this ztunnel has said that it serves the pod. */
  acked(uid: string): boolean;
  readonly ackedUids: readonly string[];
  /** Messages that wait, the one under way included. */
  readonly queued: number;
}

export interface ZdsServer {
  /**
   * Tells the newest ztunnel of a pod; resolves when it has acknowledged. If its connection ends before, the one before it is told
   * instead. Rejects with one of these texts, or with the signal's reason: "no ztunnel connection…", "got ack error: …", "ztunnel did not
   * answer within 5 s…" (the connection is closed then), "the ZDS message … is N bytes long…", "ztunnel is too slow…".
   */
  add(pod: ZdsPod, signal?: AbortSignal): Promise<void>;
  /**
   * Tells all ztunnels that a pod is gone, which the next snapshot must not have; resolves when those that live have acknowledged. None
   * is no error.
   */
  del(uid: string, signal?: AbortSignal): Promise<void>;
  /** Oldest first. */
  connections(): readonly ZdsConnectionInfo[];
  /** Ends all connections; pods stay as they are for their ztunnels. */
  close(): void;
}

export interface ZdsServerOptions {
  readonly path: string;
  /** What a ztunnel that connects is to serve. */
  readonly pods: () => Iterable<SnapshotPod>;
  /** Starts the thread whose entry runs `runZdsThread`. */
  readonly startThread: (start: ZdsThreadStart, events: ThreadEvents) => Thread;
  readonly log: ConversationHost["log"];
  /** istio-cni takes 5, which is the default: a ztunnel that reconnects in a loop costs a snapshot each time. */
  readonly acceptsPerSecond?: number;
  /** ztunnel_connected. */
  readonly connected?: (count: number) => void;
  /** Of each of ztunnel's answers; 5 s is what both ends of the protocol expect. */
  readonly deadlineMs?: number;
  readonly schedule?: ConversationHost["schedule"];
  readonly nowMs?: () => number;
}

const ACCEPTS_PER_SECOND = 5;
/** A message that ended so many connections is not tried on yet another one. */
const MAX_ATTEMPTS = 3;

interface Connection {
  readonly conversation: Conversation;
  readonly info: ZdsConnectionInfo;
}

/** @throws Error when it cannot listen at the path */
export function startZdsServer(options: ZdsServerOptions): ZdsServer {
  const { log, schedule = delay, nowMs = Date.now, connected = () => {} } = options;
  const connections: Connection[] = [];
  let lastEnd = "";
  let closed = false;

  const accept = (socket: Socket, pid: number, uid: number): SocketHandler => {
    const id = randomUUID();
    const fields = { conn_uuid: id };
    const conversation: Conversation = new Conversation({
      send: (message, bytes, netns) => socket.send(message, bytes, netns),
      close: () => socket.close(),
      snapshot: options.pods,
      deadlineMs: options.deadlineMs ?? DEADLINE_MS,
      schedule,
      log: (level, message, more) => log(level, message, { ...fields, ...more }),
      ready: () => log("info", "snapshot sent to ztunnel", { ...fields, pods: conversation.acked.size }),
      ended(reason, quiet) {
        const at = connections.indexOf(connection);
        if (at !== -1) connections.splice(at, 1);
        lastEnd = reason;
        const total = `total connected: ${connections.length}`;
        if (quiet) log("info", `ztunnel disconnected, ${total}`, { ...fields, reason });
        else log("error", `ztunnel connection closed: ${reason}, ${total}`, fields);
        connected(connections.length);
      },
    });
    const connection: Connection = { conversation, info: describe(conversation, id, nowMs(), pid, uid) };
    connections.push(connection);
    log("info", `new ztunnel connected, total connected: ${connections.length}`, { ...fields, pid, uid });
    connected(connections.length);
    return {
      message: (bytes, damage) => conversation.received(bytes, damage),
      sent: (message, error) => conversation.sent(message, error),
      closed: (reason, quiet) => conversation.end(reason, quiet),
    };
  };

  /** One that only connected, and may never say a word, is told of all pods when it does. */
  const newest = () =>
    (connections.findLast(({ conversation }) => conversation.hasGreeted) ?? connections.at(-1))?.conversation;

  const listener = listenZds(options.path);
  let thread: SocketThread;
  try {
    const problem = (text: string) => log("error", text);
    const acceptGapMs = 1_000 / (options.acceptsPerSecond ?? ACCEPTS_PER_SECOND);
    thread = new SocketThread({ ...options, listener: listener.fd, acceptGapMs, accepted: accept, problem, schedule });
  } catch (error) {
    listener.close();
    throw error;
  }

  return {
    add({ uid, workload, netns }, signal) {
      log("info", "sending pod add to ztunnel", { uid, ns: workload.namespace, name: workload.name });
      return withSignal(signal, (resolve, reject) => {
        let withdraw = () => {};
        let attempts = 0;
        const settled: Ask["settled"] = (outcome) => {
          if (outcome.is === "acked") resolve();
          else if (outcome.is === "refused") reject(`got ack error: ${outcome.error}`);
          else if (outcome.is === "failed") reject(outcome.error);
          else tell();
        };
        const tell = () => {
          const target = newest();
          if (target === undefined || attempts++ === MAX_ATTEMPTS) {
            return reject(`no ztunnel connection${lastEnd === "" ? "" : `: the last one ended: ${lastEnd}`}`);
          }
          withdraw = target.ask({ request: { kind: "add", uid, workload }, netns, settled });
        };
        tell();
        return () => withdraw();
      });
    },

    async del(uid, signal) {
      const errors: string[] = [];
      await Promise.all(
        [...connections].map(({ conversation, info }) =>
          withSignal(signal, (resolve) =>
            conversation.ask({
              request: { kind: "del", uid },
              netns: undefined,
              settled(outcome) {
                // A ztunnel that comes back is told what there is, without this pod.
                if (outcome.is === "refused") errors.push(`got ack error: ${outcome.error} (${info.id})`);
                else if (outcome.is === "failed") errors.push(`${outcome.error} (${info.id})`);
                resolve();
              },
            }))
        ),
      );
      if (errors.length > 0) throw new Error(`failed to delete pod ${uid} from ztunnel: ${errors.join("; ")}`);
    },

    connections: () => connections.map(({ info }) => info),

    close() {
      if (closed) return;
      closed = true;
      for (const { conversation } of [...connections]) conversation.end("the node agent ends", true);
      thread.stop();
      listener.close();
    },
  };
}

function describe(
  conversation: Conversation,
  id: string,
  sinceMs: number,
  pid: number,
  uid: number,
): ZdsConnectionInfo {
  return {
    id,
    sinceMs,
    pid,
    uid,
    get snapshotSent() {
      return conversation.isServing;
    },
    acked: (pod) => conversation.acked.has(pod),
    get ackedUids() {
      return [...conversation.acked];
    },
    get queued() {
      return conversation.queued;
    },
  };
}

/** A promise that a signal ends; `begin` returns how to withdraw what it began. */
function withSignal(
  signal: AbortSignal | undefined,
  begin: (resolve: () => void, reject: (error: string) => void) => () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      withdraw();
      reject(signal?.reason);
    };
    const done = () => signal?.removeEventListener("abort", abort);
    const withdraw = begin(() => {
      done();
      resolve();
    }, (error) => {
      done();
      reject(new Error(error));
    });
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function delay(task: () => void, delayMs: number): () => void {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
}
