/** The side of a program that is told what to do: one JSON object a line, `Order` of protocol.ts with an id, answered by one. */
import process from "node:process";
import { createInterface } from "node:readline";
import type { Order, Session } from "./protocol.ts";

const sessions = new Map<number, Session>();

/** Says that `name` serves, and then carries out what comes until there is no more. `open` is for what stays open: its answer is the session's number. */
export async function followOrders(
  name: string,
  call: (order: Order) => Promise<unknown> | undefined,
  open: (order: Order) => Promise<Session> | undefined,
): Promise<never> {
  const carryOut = async (id: number, order: Order): Promise<unknown> => {
    if (order.kind === "talk") return await sessionOf(order.session).talk(order.text);
    if (order.kind === "end") return await sessionOf(order.session).end();
    const session = await open(order);
    if (session === undefined) return await call(order);
    sessions.set(id, session);
    return id;
  };
  say({ serves: name });
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, ...order } = JSON.parse(line) as Order & { readonly id: number };
    carryOut(id, order).then(
      (result) => say({ id, result: result ?? null }),
      (error) =>
        say({ id, error: error instanceof Error ? `${error.message} ${error.cause ?? ""}`.trim() : String(error) }),
    );
  }
  process.exit(0);
}

function sessionOf(id: number): Session {
  const session = sessions.get(id);
  if (session === undefined) throw new Error(`there is no session ${id}`);
  return session;
}

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
