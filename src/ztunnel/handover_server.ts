/**
 * The old process' side of an upgrade: it gives the listening sockets of its pods to the one that takes over, so that no accept queue
 * goes away with it. Both accept from then on; the queue lives on when this process stops.
 *
 * The socket's file may be opened by its owner only, and whoever connects must be a process of the same user.
 */
import { chmodSync, renameSync, rmSync } from "node:fs";
import process from "node:process";
import { describeErrno } from "../platform/errno.ts";
import { listenSeqpacket } from "../platform/seqpacket.ts";
import { closeDescriptor } from "../platform/socket.ts";
import { decodeHandoverRequest, encodeHandoverAnswer } from "./handover_messages.ts";
import type { Link, LinkHandler } from "./links.ts";
import type { PodListeners } from "./pod_listeners.ts";

export interface HandoverServerOptions {
  readonly path: string;
  readonly serve: (fd: number, accepted: (link: Link, uid: number) => LinkHandler) => () => void;
  readonly listenersOf: (uid: string) => PodListeners | undefined;
  readonly log: (level: "info" | "warn", message: string, error?: string) => void;
}

const BACKLOG = 4;
const OWNER_ONLY = 0o600;

export class HandoverServer {
  readonly #options: HandoverServerOptions;
  /** Pods given to each process that is still there. */
  readonly #heirs = new Map<Link, Set<string>>();
  #stop: () => void = () => {};

  /** Listens; a failure is logged, and the next upgrade does without. What was at the path before is replaced in one step. */
  constructor(options: HandoverServerOptions) {
    this.#options = options;
    const temporary = `${options.path}.${process.pid}`;
    try {
      rmSync(temporary, { force: true });
      const fd = listenSeqpacket(temporary, BACKLOG);
      if (fd < 0) throw new Error(`cannot listen at ${temporary}: ${describeErrno(-fd)}`);
      chmodSync(temporary, OWNER_ONLY);
      renameSync(temporary, options.path);
      const end = options.serve(fd, (link, uid) => this.#accepted(link, uid));
      this.#stop = () => {
        end();
        closeDescriptor(fd);
      };
    } catch (error) {
      options.log("warn", "cannot offer a hand-over: the next upgrade may reset connections", (error as Error).message);
    }
  }

  /** Whether another process that is there has the sockets of a pod. */
  inherited(uid: string): boolean {
    return [...this.#heirs.values()].some((uids) => uids.has(uid));
  }

  /** Pods whose sockets another process has. */
  get count(): number {
    return new Set([...this.#heirs.values()].flatMap((uids) => [...uids])).size;
  }

  /** The file stays: by now it may be the next process'. */
  close(): void {
    this.#stop();
    for (const link of this.#heirs.keys()) link.close();
    this.#heirs.clear();
  }

  #accepted(link: Link, uid: number): LinkHandler {
    const { log, listenersOf } = this.#options;
    if (uid !== process.getuid?.()) {
      log("warn", "refused a hand-over", `the process that asks belongs to user ${uid}`);
      link.close();
      return { message() {}, closed() {} };
    }
    const given = new Set<string>();
    this.#heirs.set(link, given);
    log("info", "another ztunnel takes over this one's listeners");
    return {
      message: (bytes, fds) => {
        for (const fd of fds) closeDescriptor(fd);
        const request = decodeHandoverRequest(bytes);
        if (request === undefined) {
          log("warn", "refused a hand-over", "the request cannot be read");
          this.#heirs.delete(link);
          return link.close();
        }
        const listeners = listenersOf(request.uid);
        const fits = listeners !== undefined && listeners.namespaceIdentity === request.netns;
        const sockets = fits ? Object.entries(listeners.fds) : [];
        if (sockets.length > 0) given.add(request.uid);
        link.send(
          encodeHandoverAnswer({ uid: request.uid, sockets: sockets.map(([kind]) => kind) }),
          sockets.map(([, fd]) => fd as number),
        );
      },
      closed: () => {
        this.#heirs.delete(link);
      },
    };
  }
}
