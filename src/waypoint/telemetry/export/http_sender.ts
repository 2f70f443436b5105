/** One POST, on the main thread. Never throws. */
import type { Buffer } from "node:buffer";
import { Agent, request } from "node:http";
import type { CollectorAddress } from "./collectors.ts";

const TIMEOUT_MS = 10_000;
const MAX_SOCKETS = 4;

export class HttpSender {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });

  /** Resolves with "" when it was taken, else with why not. */
  post(
    { host, port }: CollectorAddress,
    path: string,
    body: Uint8Array | string,
    headers: Readonly<Record<string, string>>,
  ): Promise<string> {
    return new Promise((resolve) => {
      try {
        const call = request({ host, port, path, method: "POST", agent: this.#agent, timeout: TIMEOUT_MS, headers });
        call.on("response", (response) => {
          const status = response.statusCode ?? 0;
          response.on("data", (_: Buffer) => {});
          response.on("error", () => {});
          response.on("end", () => resolve(status >= 200 && status < 300 ? "" : `HTTP ${status}`));
          response.on("close", () => resolve(`HTTP ${status}`));
        });
        call.on("timeout", () => call.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
        call.on("error", (error) => resolve(error.message));
        call.end(body);
      } catch (error) {
        resolve((error as Error).message);
      }
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
