/** For thread_test.ts: a handler that throws while it is called by `take`, whose caller goes on. */
import process from "node:process";
import { startThread } from "../../src/platform/thread.ts";

interface Message {
  readonly type: string;
  readonly wakeFd: number;
}

const ready = Promise.withResolvers<Message>();
let echoes = 0;
const thread = startThread(new URL("./thread_worker.ts", import.meta.url), undefined, {
  message(posted) {
    const message = posted as Message;
    if (message.type === "started") return ready.resolve(message);
    echoes++;
    throw new Error("the handler has a bug");
  },
  ended: () => {},
});
thread.setWakeFd((await ready.promise).wakeFd);
thread.post({ type: "echo", n: 1 });
while (echoes === 0) thread.take();
console.log("the caller went on");
setTimeout(() => process.exit(0), 2_000);
