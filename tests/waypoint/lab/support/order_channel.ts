/** The test's end of a program that follows orders (apps/orders.ts), in a pod's network. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { onlyChild } from "../../../e2e/support/sandbox.ts";
import { within } from "../../../e2e/support/wait.ts";
import type { LabPod } from "../../../istiod/support/pod.ts";
import type { Order } from "../apps/protocol.ts";

const START_MS = 60_000;
const ANSWER_MS = 60_000;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class OrderChannel {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #waiting = new Map<number, Waiting>();
  #pid = 0;
  #ids = 0;
  #over = false;

  private constructor(child: ChildProcess, name: string) {
    this.#child = child;
    this.#name = name;
  }

  /** Resolves when it serves. What it has to complain of is in the lab's logs. */
  static async start(pod: LabPod, command: readonly string[]): Promise<OrderChannel> {
    const [file = "", ...args] = pod.mesh.sandbox.command(command, { pod: pod.name, namespace: pod.namespace });
    const log = openSync(join(pod.mesh.directory, "log", `app-${pod.namespace}_${pod.name}.log`), "a");
    const child = spawn(file, args, { stdio: ["pipe", "pipe", log], env: process.env });
    closeSync(log);
    const channel = new OrderChannel(child, pod.name);
    await within(START_MS, `the application of ${pod.name}`, (resolve, reject) => {
      child.on("exit", (code, signal) => {
        channel.#ended(`${code ?? signal}`);
        reject(new Error(`the application of ${pod.name} ended: ${code ?? signal}`));
      });
      createInterface({ input: child.stdout! }).on("line", (line) => {
        const said = JSON.parse(line) as { serves?: string; id?: number; result?: unknown; error?: string };
        if (said.serves !== undefined) resolve();
        else channel.#answered(said.id!, said.result, said.error);
      });
    });
    channel.#pid = await onlyChild(child.pid!);
    return channel;
  }

  /** As the test process sees it. */
  get pid(): number {
    return this.#pid;
  }

  ask<T>(order: Order): Promise<T> {
    if (this.#over) return Promise.reject(new Error(`the application of ${this.#name} is not there any more`));
    const id = ++this.#ids;
    this.#child.stdin!.write(`${JSON.stringify({ id, ...order })}\n`);
    return within<T>(ANSWER_MS, `an answer of the application of ${this.#name}`, (resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
    });
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    if (this.#over) return;
    const ended = new Promise((resolve) => this.#child.on("exit", resolve));
    process.kill(this.#pid, "SIGKILL");
    await ended;
  }

  #answered(id: number, result: unknown, error: string | undefined): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(`${this.#name}: ${error}`));
  }

  #ended(how: string): void {
    this.#over = true;
    for (const { reject } of this.#waiting.values()) {
      reject(new Error(`the application of ${this.#name} ended: ${how}`));
    }
    this.#waiting.clear();
  }
}
