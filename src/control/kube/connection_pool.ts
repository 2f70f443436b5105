/** Connections to the API server: so many at once, a few of them kept for a while. Who asks first is served first. */
import { Connection, type Target } from "./connection.ts";
import type { Schedule } from "./schedule.ts";

export interface PoolSettings {
  readonly target: () => Target;
  readonly schedule: Schedule;
  /** More requests wait. */
  readonly max: number;
  /** So many wait for the next request. */
  readonly keep: number;
  readonly keepMs: number;
}

export class ConnectionPool {
  readonly #settings: PoolSettings;
  readonly #all = new Set<Connection>();
  /** Free ones, the last used last, and what ends their waiting. */
  readonly #free = new Map<Connection, () => void>();
  readonly #waiting = new Set<(connection: Connection, isNew: boolean) => void>();

  #closed = false;

  constructor(settings: PoolSettings) {
    this.#settings = settings;
  }

  /**
   * Gives a connection to `use` when it is its turn, perhaps at once; the result takes the wish back. The connection comes back by itself.
   * @param use `isNew` false: the server may have closed it just now
   */
  request(use: (connection: Connection, isNew: boolean) => void): () => void {
    this.#waiting.add(use);
    this.#serve();
    return () => this.#waiting.delete(use);
  }

  /** Lets go of the connections that wait, and keeps none from now on. Those in use are for their users to close. */
  close(): void {
    this.#closed = true;
    for (const connection of [...this.#free.keys()]) connection.close();
  }

  #serve(): void {
    for (const use of this.#waiting) {
      const kept = [...this.#free.keys()].pop();
      if (kept === undefined && this.#all.size >= this.#settings.max) return;
      this.#waiting.delete(use);
      if (kept !== undefined) {
        this.#free.get(kept)?.();
        this.#free.delete(kept);
        use(kept, false);
        continue;
      }
      const made = new Connection(this.#settings.target(), (connection) => this.#changed(connection));
      this.#all.add(made);
      use(made, true);
    }
  }

  #changed(connection: Connection): void {
    const { schedule, keepMs } = this.#settings;
    const keep = this.#closed ? 0 : this.#settings.keep;
    this.#free.get(connection)?.();
    this.#free.delete(connection);
    if (connection.isClosed) this.#all.delete(connection);
    else if (this.#waiting.size === 0 && this.#free.size >= keep) return connection.close();
    else this.#free.set(connection, schedule(() => connection.close(), keepMs));
    this.#serve();
  }
}
