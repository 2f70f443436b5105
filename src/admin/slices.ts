/** Long texts made and sent in slices, so that the thread that makes them stays free for everything else it does. */
import { setImmediate } from "node:timers";

export interface SliceSettings {
  /** Work without a pause: a running connection, a look-up of a worker or a probe waits this long at most. */
  readonly sliceMs: number;
  readonly nowMs: () => number;
  /** Lets everything else that is due run. */
  readonly pause: () => Promise<void>;
}

/** Bytes of a piece that is handed on; a slice makes one at least this often. */
const PIECE_CHARS = 64 * 1024;

/** Joins pieces to chunks worth sending, and pauses whenever a slice is over. */
export async function* inSlices(pieces: Iterable<string>, settings: SliceSettings): AsyncGenerator<string> {
  const { sliceMs, nowMs, pause } = settings;
  let text = "";
  let startedMs = nowMs();
  for (const piece of pieces) {
    text += piece;
    if (text.length >= PIECE_CHARS) {
      yield text;
      text = "";
    }
    if (nowMs() - startedMs < sliceMs) continue;
    await pause();
    startedMs = nowMs();
  }
  if (text !== "") yield text;
}

/** A body that is made as fast as it is read. */
export function streamText(chunks: AsyncGenerator<string>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      await chunks.return(undefined);
    },
  });
}

/** How the admin servers slice. */
export const ADMIN_SLICES: SliceSettings = {
  sliceMs: 2,
  nowMs: () => performance.now(),
  // A macrotask: messages of workers and probes get their turn, which after a microtask they would not.
  pause: () => new Promise((resolve) => setImmediate(resolve)),
};
