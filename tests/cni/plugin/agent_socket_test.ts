import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { postToAgent } from "../../../src/cni/plugin/agent_socket.ts";
import { AgentStandIn, answerOk, answerWith } from "./support.ts";

const SHORT_MS = 300;
const LONG_MS = 20_000;

async function withAgent(
  answers: Parameters<typeof AgentStandIn.start>[0],
  work: (socketPath: string, agent: AgentStandIn) => Promise<void>,
): Promise<void> {
  const agent = await AgentStandIn.start(answers);
  try {
    await work(join(agent.directory, "pluginevent.sock"), agent);
  } finally {
    agent.stop();
  }
}

test("agent_socket: posts JSON and takes 200", () =>
  withAgent({ event: answerOk }, async (path, agent) => {
    assert.deepEqual(await postToAgent(path, "/cmdadd", '{"é":1}', LONG_MS), { status: 200, body: "" });
    assert.deepEqual(agent.events, [
      { method: "POST", path: "/cmdadd", contentType: "application/json", body: '{"é":1}' },
    ]);
  }));

test("agent_socket: gives status and text of a failure", () =>
  withAgent({ event: answerWith(500, "no ztunnel connection\n") }, async (path) => {
    assert.deepEqual(await postToAgent(path, "/x", "{}", LONG_MS), { status: 500, body: "no ztunnel connection" });
  }));

test("agent_socket: reads at most 1 MiB of an answer", () =>
  withAgent({
    event: (_, response) => {
      response.writeHead(500);
      // Without an end.
      const more = () => void (response.destroyed || response.write("x".repeat(256 * 1024), () => setImmediate(more)));
      more();
    },
  }, async (path) => {
    const { status, body } = await postToAgent(path, "/x", "{}", LONG_MS);
    assert.deepEqual([status, body.length], [500, 1 << 20]);
  }));

test("agent_socket: an agent that does not answer in time is an error", () =>
  withAgent({ event: () => {} }, async (path) => {
    const startMs = performance.now();
    await assert.rejects(postToAgent(path, "/x", "{}", SHORT_MS), { message: `no answer on ${path} within 0.3 s` });
    assert.ok(performance.now() - startMs < 5_000);
  }));

test("agent_socket: an answer that trickles is cut off by the same time", () =>
  withAgent({
    event: (_, response) => {
      response.writeHead(500);
      const timer = setInterval(() => response.write("."), 20);
      response.on("close", () => clearInterval(timer));
    },
  }, async (path) => {
    await assert.rejects(postToAgent(path, "/x", "{}", SHORT_MS), { message: /within 0\.3 s$/ });
  }));

test("agent_socket: says what to look at when nobody is there", () =>
  withAgent({}, async (path) => {
    await assert.rejects(postToAgent(path, "/x", "{}", LONG_MS), {
      message: `there is no ${path}: is the istio-cni agent of this node running?`,
    });
    // What a killed agent leaves behind, as far as connecting goes: a name nobody listens on.
    writeFileSync(path, "");
    await assert.rejects(postToAgent(path, "/x", "{}", LONG_MS), {
      message: `connection refused on ${path}: is the istio-cni agent of this node running?`,
    });
  }));

test("agent_socket: an agent that dies before its answer is an error", () =>
  withAgent({}, async (path) => {
    const server = createServer((socket) => socket.once("data", () => socket.destroy()));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    try {
      await assert.rejects(postToAgent(path, "/x", "{}", LONG_MS));
    } finally {
      server.close();
    }
  }));
