/** The thread's part, on a reactor of this thread and real sockets: what waits for room, and what the kernel is short of. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { ZdsEvent } from "../../../src/cni/zds/messages.ts";
import { ZdsSockets } from "../../../src/cni/zds/socket_worker.ts";
import { Reactor } from "../../../src/net/reactor.ts";
import { EAGAIN, ENOBUFS, EPIPE } from "../../../src/platform/errno.ts";
import { connectSeqpacket, listenSeqpacket, MessageReceiver, MessageSender } from "../../../src/platform/seqpacket.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";

const ETOOMANYREFS = 109;

let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), "ambit-zds-"));
});
after(() => rmSync(directory, { recursive: true }));

let scenes = 0;

function createScene(sender: Pick<MessageSender, "send"> = new MessageSender(1024)) {
  const path = join(directory, `${scenes++}.sock`);
  const listener = listenSeqpacket(path, 4);
  let nowMs = 0;
  const events: ZdsEvent[] = [];
  const reactor = new Reactor(() => nowMs, () => {});
  const start = { generation: 1, ownership: new SharedArrayBuffer(0), acceptGapMs: 0 };
  const sockets = new ZdsSockets(reactor, start, (event) => events.push(event), sender);
  sockets.handle({ do: "listen", fd: listener });
  const client = connectSeqpacket(path);
  reactor.turn(0);
  const [accepted] = events;
  assert.ok(accepted.event === "accepted");
  events.length = 0;
  let messages = 0;
  return {
    client,
    events,
    pass(ms: number) {
      nowMs += ms;
      reactor.turn(0);
      reactor.turn(0);
    },
    send(bytes = new Uint8Array(1000)) {
      sockets.handle({ do: "send", connection: accepted.connection, message: ++messages, bytes, fd: -1 });
      return messages;
    },
    end() {
      sockets.handle({ do: "stop" });
      reactor.dispose();
      closeDescriptor(client);
      closeDescriptor(listener);
    },
  };
}

test("zds sockets: a message waits for room at the other end", () => {
  const scene = createScene();
  let sent = 0;
  while (scene.send() === scene.events.length) sent++;
  scene.pass(1_000);
  assert.equal(scene.events.length, sent, "it waits");
  const receiver = new MessageReceiver(1024);
  while (receiver.receive(scene.client) !== -EAGAIN);
  scene.pass(0);
  const [last] = scene.events.slice(-1);
  assert.ok(last.event === "sent" && last.message === sent + 1 && last.error === undefined);
  scene.end();
});

test("zds sockets: what the kernel is short of for 4 s fails that message, and the connection lives", () => {
  let short = true;
  const real = new MessageSender(1024);
  const scene = createScene({ send: (fd, bytes) => short ? -ENOBUFS : real.send(fd, bytes) });
  const first = scene.send();
  for (let i = 0; i < 50; i++) scene.pass(100);
  short = false;
  const second = scene.send();
  assert.deepEqual(
    scene.events.map((event) => event.event === "sent" ? [event.message, event.error] : event),
    [[first, "no buffer space (ENOBUFS) for 4 s"], [second, undefined]],
  );
  scene.end();
});

for (const [name, code] of Object.entries({ ENOBUFS, ETOOMANYREFS })) {
  test(`zds sockets: ${name} passes, and the message is sent then`, () => {
    let failures = 3;
    const real = new MessageSender(1024);
    const scene = createScene({ send: (fd, bytes) => failures-- > 0 ? -code : real.send(fd, bytes) });
    scene.send(new Uint8Array([1, 2, 3]));
    for (let i = 0; i < 10; i++) scene.pass(100);
    assert.deepEqual(scene.events.map(({ event }) => event), ["sent"]);
    assert.equal(new MessageReceiver(1024).receive(scene.client), 3);
    scene.end();
  });
}

test("zds sockets: what cannot pass ends the connection", () => {
  const scene = createScene({ send: () => -EPIPE });
  scene.send();
  const [{ event }] = scene.events;
  assert.equal(event, "closed");
  assert.equal(scene.events.length, 1);
  scene.end();
});
