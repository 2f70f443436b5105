/** Work that takes turns, and work that many callers share. */

export interface Turns {
  /** Runs after all that was asked for before. */
  take<T>(work: () => Promise<T>): Promise<T>;
  /** Like `take`, but who asks before the work has begun shares that run of it. `work` must be the same one each time. */
  share(work: () => Promise<void>): Promise<void>;
}

export function createTurns(): Turns {
  let last: Promise<unknown> = Promise.resolve();
  let waiting: Promise<void> | undefined;
  const take = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work);
    last = turn.catch(() => {});
    return turn;
  };
  return {
    take,
    share(work) {
      return waiting ??= take(() => {
        waiting = undefined;
        return work();
      });
    },
  };
}
