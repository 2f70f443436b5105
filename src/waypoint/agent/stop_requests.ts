/** What asks a waypoint to stop: SIGTERM, SIGINT, the admin server. A second SIGINT ends the process where it stands. */
import process from "node:process";

export interface StopRequest {
  readonly reason: string;
  /** Without a drain. */
  readonly now: boolean;
}

export interface StopRequests {
  readonly requested: Promise<StopRequest>;
  request(request: StopRequest): void;
  /** A request that says `now`, whenever it comes. */
  readonly hurried: Promise<void>;
}

/** Exit code of a process ended by SIGINT. */
const INTERRUPTED = 130;

/** Handles the signals from now on. */
export function stopRequests(): StopRequests {
  const asked = Promise.withResolvers<StopRequest>();
  const hurried = Promise.withResolvers<void>();
  let stopping = false;
  const request = (wish: StopRequest) => {
    stopping = true;
    asked.resolve(wish);
    if (wish.now) hurried.resolve();
  };
  process.on("SIGTERM", () => request({ reason: "SIGTERM", now: false }));
  process.on("SIGINT", () => {
    if (stopping) process.exit(INTERRUPTED);
    request({ reason: "SIGINT", now: false });
  });
  return { requested: asked.promise, request, hurried: hurried.promise };
}
