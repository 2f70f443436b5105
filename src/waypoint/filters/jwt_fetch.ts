/** Gets an issuer's keys from its own address, on the main thread: bounded in time and size, and never by way of a redirect to somewhere else. */
import type { FetchKeys } from "./jwt_judge.ts";

const MAX_KEYS_BYTES = 1 << 20;
/** Where the provider does not say. */
const TIMEOUT_MS = 5_000;

export const fetchKeys: FetchKeys = async ({ uri, timeoutMs }) => {
  const response = await fetch(uri, {
    headers: { accept: "application/json" },
    redirect: "error",
    signal: AbortSignal.timeout(timeoutMs || TIMEOUT_MS),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${uri}: HTTP ${response.status}`);
  }
  let text = "";
  let bytes = 0;
  const utf8 = new TextDecoder();
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > MAX_KEYS_BYTES) throw new Error(`${uri}: more than ${MAX_KEYS_BYTES} bytes`);
    text += utf8.decode(piece, { stream: true });
  }
  return text + utf8.decode();
};
