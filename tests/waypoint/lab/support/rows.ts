/**
 * Tables of requests: what is asked, and what must come of it. All rows must hold at once, so each is asked until it holds (istiod takes a moment),
 * and then all of them once more.
 */
import { performance } from "node:perf_hooks";
import type { Echo, HttpAnswer, HttpOrder } from "../apps/protocol.ts";
import type { AppPod } from "./stage.ts";

export interface Row {
  readonly name: string;
  /** One look, with so much time for each answer; rejects with what is not as it should be. */
  check(answerMs: number): Promise<void>;
}

const HOLD_MS = 25_000;
const RETRY_MS = 150;
/** Before ztunnel knows a service, a connection to it hangs: the row is asked again. */
const ANSWER_MS = 2_500;
/** When all is in force: a busy machine is slow, but it answers. */
const PATIENT_MS = 20_000;
const AT_ONCE = 12;
const SHOWN = 12;

/** @throws Error that names the rows that do not hold */
export async function expectRows(rows: readonly Row[], holdMs = HOLD_MS): Promise<void> {
  const deadline = performance.now() + holdMs;
  await report(rows, async (row) => {
    for (;;) {
      try {
        return await row.check(ANSWER_MS);
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  });
  await report(rows, (row) => row.check(PATIENT_MS));
}

async function report(rows: readonly Row[], check: (row: Row) => Promise<void>): Promise<void> {
  const failures: string[] = [];
  await inParallel(rows, async (row) => {
    await check(row).catch((error: Error) => void failures.push(`${row.name}: ${error.message}`));
  });
  if (failures.length === 0) return;
  const more = failures.length > SHOWN ? `\n… and ${failures.length - SHOWN} more` : "";
  throw new Error(
    `${failures.length} of ${rows.length} rows do not hold:\n${failures.slice(0, SHOWN).join("\n")}${more}`,
  );
}

/** A few at a time. */
export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
}

export interface Wanted {
  /** Default: 200. */
  readonly status?: number;
  /** The application that answers. */
  readonly app?: string;
  /** As the application got it, with the query. */
  readonly path?: string;
  readonly method?: string;
  readonly protocol?: string;
  /** That the application got; `undefined`: it did not. Names in lower case. */
  readonly got?: Readonly<Record<string, string | undefined>>;
  /** Of the answer; `undefined`: not there. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** The whole body, or what is in it. */
  readonly body?: string | RegExp;
}

type Ask = Partial<Omit<HttpOrder, "kind" | "url">>;

/** A request from `from` and what must come of it. */
export function httpRow(name: string, from: AppPod, url: string, ask: Ask, wanted: Wanted): Row {
  return {
    name,
    async check(timeoutMs) {
      check(await from.app.http(url, { timeoutMs, ...ask }), wanted);
    },
  };
}

/** @throws Error that says what differs */
export function check(answer: HttpAnswer, wanted: Wanted): void {
  const { status = 200, headers = {}, body } = wanted;
  const differences: string[] = [];
  const compare = (what: string, is: string | number | undefined, should: string | number | undefined) => {
    // A list may be written with and without blanks.
    const plain = (value: string | number | undefined) =>
      typeof value === "string" ? value.replaceAll(", ", ",") : value;
    if (plain(is) !== plain(should)) {
      differences.push(`${what} is ${JSON.stringify(is)}, not ${JSON.stringify(should)}`);
    }
  };
  compare("the status", answer.status, status);
  for (const [name, value] of Object.entries(headers)) compare(`the answer's ${name}`, answer.headers[name], value);
  if (typeof body === "string") compare("the body", answer.body, body);
  if (body instanceof RegExp && !body.test(answer.body)) {
    differences.push(`the body is ${JSON.stringify(answer.body)}, not like ${body}`);
  }
  const { app, path, method, protocol, got = {} } = wanted;
  if (differences.length === 0 && [app, path, method, protocol, wanted.got].some((each) => each !== undefined)) {
    const echo = JSON.parse(answer.body) as Echo;
    if (app !== undefined) compare("the application", echo.app, app);
    if (path !== undefined) compare("the path", echo.path, path);
    if (method !== undefined) compare("the method", echo.method, method);
    if (protocol !== undefined) compare("the protocol", echo.protocol, protocol);
    for (const [name, value] of Object.entries(got)) compare(`the application's ${name}`, echo.headers[name], value);
  }
  if (differences.length > 0) {
    throw new Error(`${differences.join("; ")} (${answer.status} ${answer.body.slice(0, 160)})`);
  }
}

/** @throws Error with the text */
export function assertThat(holds: boolean, text: string): void {
  if (!holds) throw new Error(text);
}

/** How often each application answers. @throws Error when a request fails */
export async function countApps(times: number, ask: () => Promise<string>): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {};
  await inParallel(Array.from({ length: times }), async () => {
    const app = await ask();
    counts[app] = (counts[app] ?? 0) + 1;
  });
  return counts;
}
