/** What asks ztunnel to stop: SIGTERM, SIGINT, the admin endpoint. A second SIGINT ends the process where it stands. */
import process from "node:process";

export interface StopRequests {
  /** Resolves with who asked. */
  readonly requested: Promise<string>;
  request(reason: string): void;
}

/** Exit code of a process ended by SIGINT. */
const INTERRUPTED = 130;

/** Handles the signals from now on. */
export function stopRequests(): StopRequests {
  let resolve: (reason: string) => void = () => {};
  const requested = new Promise<string>((done) => {
    resolve = done;
  });
  let stopping = false;
  const request = (reason: string) => {
    stopping = true;
    resolve(reason);
  };
  process.on("SIGTERM", () => request("SIGTERM"));
  process.on("SIGINT", () => {
    if (stopping) process.exit(INTERRUPTED);
    request("SIGINT");
  });
  return { requested, request };
}
