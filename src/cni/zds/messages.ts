/** What the main thread and the thread that watches the ztunnels' sockets say to each other. Connections have numbers. */

/** What a thread is started with. */
export interface ZdsThreadStart {
  readonly generation: number;
  /** The table of platform/ownership.ts. */
  readonly ownership: SharedArrayBuffer;
  /** Between two connections that are taken. */
  readonly acceptGapMs: number;
}

/** From the main thread. */
export type ZdsOrder =
  /** Take connections from this listening socket, which stays the main thread's. */
  | { readonly do: "listen"; readonly fd: number }
  /** Answered by one "sent" with the same number. `fd` -1: none; it stays the main thread's, and open until "sent" or "closed". */
  | {
    readonly do: "send";
    readonly connection: number;
    readonly message: number;
    readonly bytes: Uint8Array;
    readonly fd: number;
  }
  /** Answered by "closed", as every connection is once. */
  | { readonly do: "close"; readonly connection: number }
  /** Close everything and end. */
  | { readonly do: "stop" };

/** To the main thread. */
export type ZdsEvent =
  | { readonly event: "started"; readonly wakeFd: number }
  | { readonly event: "accepted"; readonly connection: number; readonly pid: number; readonly uid: number }
  /** `error`: nothing of it was sent; the connection is as before. */
  | {
    readonly event: "sent";
    readonly connection: number;
    readonly message: number;
    readonly error: string | undefined;
  }
  /** `damage` says what of it is lost. */
  | {
    readonly event: "message";
    readonly connection: number;
    readonly bytes: Uint8Array;
    readonly damage: string | undefined;
  }
  /** The socket is closed, and nothing more comes of this connection. `quiet`: the other end, or the main thread, closed it. */
  | { readonly event: "closed"; readonly connection: number; readonly reason: string; readonly quiet: boolean }
  /** The listening socket cannot be watched. */
  | { readonly event: "failed"; readonly reason: string };
