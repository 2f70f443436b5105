/**
 * One POST to the agent over a unix socket: reference cni.md 2.3 and 2.4. Its time and the size of the answer are
 * bounded, and `node:http` is loaded only when there is something to say.
 */

export interface Answer {
  readonly status: number;
  /** Text of a failure; empty for 200, whose body nobody reads. */
  readonly body: string;
}

/** The whole of a pod's enrolment must fit into it (2.3). */
export const EVENT_TIMEOUT_MS = 5_000;
export const LOG_TIMEOUT_MS = 1_000;
const BODY_MAX_BYTES = 1 << 20;

/** Rejects with a text for a person when there is no answer. */
export async function postToAgent(
  socketPath: string,
  path: string,
  json: string,
  timeoutMs: number,
): Promise<Answer> {
  const { request } = await import("node:http");
  const body = new TextEncoder().encode(json);
  return await new Promise<Answer>((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    const sent = request({
      socketPath,
      path,
      method: "POST",
      agent: false,
      headers: { host: "unix", "content-type": "application/json", "content-length": body.length },
    });
    const finish = (settle: () => void) => {
      clearTimeout(timer);
      settle();
      sent.destroy();
    };
    const timer = setTimeout(() => {
      finish(() => reject(new Error(`no answer on ${socketPath} within ${timeoutMs / 1000} s`)));
    }, timeoutMs);
    // Stays for the whole process: what happens to the socket after the answer is nobody's concern.
    sent.on("error", (error: Error) => finish(() => reject(new Error(describe(error, socketPath)))));
    sent.on("response", (response) => {
      const status = response.statusCode ?? 0;
      if (status === 200) return finish(() => resolve({ status, body: "" }));
      const end = () => finish(() => resolve({ status, body: textOf(chunks) }));
      response.on("data", (chunk: Uint8Array) => {
        const rest = BODY_MAX_BYTES - bytes;
        chunks.push(chunk.subarray(0, rest));
        bytes += chunk.length;
        if (bytes >= BODY_MAX_BYTES) end();
      });
      // Cut short, it is still the reason for the failure.
      response.on("error", end);
      response.on("close", end);
      response.on("end", end);
    });
    sent.end(body);
  });
}

function textOf(chunks: readonly Uint8Array[]): string {
  return new TextDecoder().decode(Buffer.concat(chunks)).trimEnd();
}

/** Codes are the same on both runtimes, texts are not. */
function describe(error: Error & { readonly code?: string }, socketPath: string): string {
  switch (error.code) {
    case "ENOENT":
      return `there is no ${socketPath}: is the istio-cni agent of this node running?`;
    case "ECONNREFUSED":
      return `connection refused on ${socketPath}: is the istio-cni agent of this node running?`;
    case "ECONNRESET":
      return `the connection on ${socketPath} was cut before an answer came`;
    default:
      return `${error.message} (${socketPath})`;
  }
}
