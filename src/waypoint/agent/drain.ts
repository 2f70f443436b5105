/**
 * The end of a waypoint, waypoint.md 1.10: everybody is told to go at once (GOAWAY, Connection: close), and then has some time for it, because
 * ztunnels keep long-lived tunnels and must move to another pod first.
 */

export interface DrainOptions {
  readonly terminationDrainMs: number;
  readonly exitOnZeroConnections: boolean;
  readonly minimumDrainMs: number;
  /** Readiness fails and GOAWAY goes out. */
  readonly announce: () => void;
  /** Connections that are left. */
  readonly active: () => number;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

/** pilot-agent's. */
const POLL_MS = 1_000;

export type DrainEnd = "time" | "no connections" | "drained before";

/** Once announced, what follows is a matter of time. Calling again changes nothing. */
export class Drain {
  readonly #options: DrainOptions;
  #announced = false;
  #isDone = false;

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  /** Without an end. */
  announce(): void {
    if (this.#announced) return;
    this.#announced = true;
    this.#options.announce();
  }

  /** POST /drain: whoever asks waits by himself, so that the request to stop that follows is not made to wait again. */
  announceOnly(): void {
    this.#isDone = true;
    this.announce();
  }

  /** Resolves when the process may end. */
  run(): Promise<DrainEnd> {
    const { schedule, active, exitOnZeroConnections, minimumDrainMs, terminationDrainMs } = this.#options;
    this.announce();
    if (this.#isDone) return Promise.resolve("drained before");
    return new Promise((resolve) => {
      if (!exitOnZeroConnections) return schedule(() => resolve("time"), terminationDrainMs);
      const poll = () => {
        if (active() === 0) resolve("no connections");
        else schedule(poll, POLL_MS);
      };
      schedule(poll, minimumDrainMs);
    });
  }
}
