/** Clients that ask one request after the other until they are told to stop, each on a connection of its own. */
import { Agent, type IncomingMessage, request } from "node:http";
import { type LoadAnswer, type LoadOrder, pattern, type Session } from "./protocol.ts";

const ANSWER_MS = 30_000;
const SHOWN_FAILURES = 20;

export function startLoad(order: LoadOrder): Promise<Session> {
  const startedMs = performance.now();
  const statuses: Record<string, number> = {};
  const apps: Record<string, number> = {};
  const failures: string[] = [];
  const times: number[] = [];
  let failed = 0;
  let running = true;
  const body = order.body === undefined ? undefined : pattern(order.body);

  const fail = (why: string) => {
    failed++;
    if (failures.length < SHOWN_FAILURES) failures.push(`at ${Math.round(performance.now() - startedMs)} ms: ${why}`);
  };
  const client = async () => {
    const agent = order.newConnections === true ? undefined : new Agent({ keepAlive: true, maxSockets: 1 });
    while (running) {
      const begun = performance.now();
      try {
        const { status, app, text } = await ask(order, agent, body);
        statuses[status] = (statuses[status] ?? 0) + 1;
        if (status === 200) apps[app] = (apps[app] ?? 0) + 1;
        else fail(`${status} ${text}`);
      } catch (error) {
        fail((error as Error).message);
      }
      times.push(performance.now() - begun);
      await new Promise((resolve) => setTimeout(resolve, order.pauseMs ?? 5));
    }
    agent?.destroy();
  };
  const clients = Array.from({ length: order.clients }, client);
  const report = (): LoadAnswer => {
    const sorted = times.toSorted((a, b) => a - b);
    return {
      sent: times.length,
      statuses,
      apps,
      failures,
      failed,
      medianMs: sorted[sorted.length >> 1] ?? 0,
      slowestMs: sorted.at(-1) ?? 0,
    };
  };
  return Promise.resolve({
    talk: () => Promise.resolve(JSON.stringify(report())),
    async end() {
      running = false;
      await Promise.all(clients);
      return report();
    },
  });
}

function ask(order: LoadOrder, agent: Agent | undefined, body: Uint8Array | undefined) {
  return new Promise<{ readonly status: number; readonly app: string; readonly text: string }>((resolve, reject) => {
    const sent = request(order.url, {
      method: body === undefined ? "GET" : "POST",
      headers: { ...(body === undefined ? {} : { "content-length": body.length }), ...order.headers },
      agent: agent ?? false,
    });
    const timer = setTimeout(() => sent.destroy(new Error(`no answer in ${ANSWER_MS} ms`)), ANSWER_MS);
    sent.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    sent.on("response", (response: IncomingMessage) => {
      const chunks: Uint8Array[] = [];
      response.on("data", (chunk: Uint8Array) => chunks.push(chunk));
      response.on("error", reject);
      response.on("aborted", () => reject(new Error("the answer was cut off")));
      response.on("end", () => {
        clearTimeout(timer);
        const app = String(response.headers["x-app"] ?? "");
        resolve({ status: response.statusCode ?? 0, app, text: Buffer.concat(chunks).toString().slice(0, 200) });
      });
    });
    sent.end(body);
  });
}
