/** Waiting for what another side does. */

const DEADLINE_MS = 30_000;

/** Resolves when it holds. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + DEADLINE_MS;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`did not come to pass: ${what}`);
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
}
