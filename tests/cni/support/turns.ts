/** Many things to do, a few at a time. */

/** Runs `task` for every item, at most `width` at once. Resolves with the results in the items' order. */
export async function inTurns<T, R>(
  items: readonly T[],
  width: number,
  task: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, async () => {
    while (next < items.length) {
      const at = next++;
      results[at] = await task(items[at]!, at);
    }
  }));
  return results;
}
