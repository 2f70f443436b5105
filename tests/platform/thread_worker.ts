/** A worker for thread_test.ts: blocks in epoll like a data-plane worker, and does what it is told. */
import { createEventFd, drainEventFd, Epoll, EPOLLIN } from "../../src/platform/epoll.ts";
import { threadPort } from "../../src/platform/thread.ts";

const port = threadPort();
const wakeFd = createEventFd();
const epoll = new Epoll();
epoll.add(wakeFd, EPOLLIN, 1);
port.post({ type: "started", wakeFd, data: port.data });

const received: number[] = [];
for (let running = true; running;) {
  epoll.wait(-1);
  drainEventFd(wakeFd);
  for (let taken = port.take(); taken !== undefined; taken = port.take()) {
    const message = taken.message as { readonly type: string; readonly n?: number; readonly flag?: SharedArrayBuffer };
    if (message.type === "count") received.push(message.n as number);
    else if (message.type === "echo") port.post({ type: "echo", n: message.n });
    else if (message.type === "report") port.post({ type: "report", received });
    else if (message.type === "throw") throw new Error("the worker has a bug");
    else if (message.type === "end") running = false;
    else if (message.type === "loop") {
      // Until the test lets go: not every runtime stops a thread that runs.
      const flag = new Int32Array(message.flag as SharedArrayBuffer);
      Atomics.store(flag, 0, 1);
      while (Atomics.load(flag, 0) === 1);
    }
  }
}
