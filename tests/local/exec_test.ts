/** `ambit local exec` without the mesh: both ends over a real unix socket, in this process's own network. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { execInMesh } from "../../src/local/exec_client.ts";
import { EXEC_SOCKET } from "../../src/local/exec_messages.ts";
import { serveExec } from "../../src/local/exec_server.ts";

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function withServer(
  body: (run: (...command: string[]) => Promise<Ran>, directory: string, close: () => void) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "ambit-exec-"));
  const close = await serveExec(join(directory, EXEC_SOCKET), (where) => {
    if (where !== "here") throw new Error(`there is no pod or node "${where}"`);
    return { netns: "/proc/self/ns/net", env: { WHO: "pod" } };
  });
  try {
    await body((...command) => exec(directory, "here", command), directory, close);
  } finally {
    close();
    await rm(directory, { recursive: true });
  }
}

async function exec(directory: string, where: string, command: readonly string[]): Promise<Ran> {
  const chunks: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
  const code = await execInMesh({ where, command }, {
    stdout: (bytes) => chunks.stdout.push(bytes),
    stderr: (bytes) => chunks.stderr.push(bytes),
  }, directory);
  return { code, stdout: `${Buffer.concat(chunks.stdout)}`, stderr: `${Buffer.concat(chunks.stderr)}` };
}

test("exec: passes on both outputs, the environment of the place, and the exit code", async () => {
  await withServer(async (run) => {
    assert.deepEqual(await run("sh", "-c", "echo $WHO; echo no >&2; exit 7"), {
      code: 7,
      stdout: "pod\n",
      stderr: "no\n",
    });
  });
});

test("exec: passes on bytes that are no text, and more than a buffer holds, in order", async () => {
  await withServer(async (run) => {
    const { code, stdout } = await run("sh", "-c", "seq 1 200000");
    assert.equal(code, 0);
    assert.equal(stdout, Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join(""));
  });
});

test("exec: a place that is not there, and a command that is not, say so", async () => {
  await withServer(async (run, directory) => {
    await assert.rejects(exec(directory, "elsewhere", ["true"]), /there is no pod or node "elsewhere"/);
    const { code, stderr } = await run("/no/such/program");
    assert.notEqual(code, 0);
    assert.match(stderr, /no\/such\/program/);
  });
});

test("exec: the command ends with its client, and with the mesh", async () => {
  await withServer(async (run, directory) => {
    const socket = connect(join(directory, EXEC_SOCKET));
    socket.write(
      `${JSON.stringify({ where: "here", command: ["sh", "-c", "echo up; sleep 1000; echo late > late"] })}\n`,
    );
    await new Promise((resolve) => socket.once("data", resolve));
    socket.destroy();
    const count = () => run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'late > [l]ate'");
    while (Number((await count()).stdout) > 0);
  });
  await withServer(async (_, directory, close) => {
    const command = ["sh", "-c", "echo up; sleep 1000"];
    const output = { stdout: () => close(), stderr: () => {} };
    await assert.rejects(execInMesh({ where: "here", command }, output, directory), /the mesh has ended/);
  });
});

test("exec: no mesh is an error that tells how to get one", async () => {
  const none = await mkdtemp(join(tmpdir(), "ambit-none-"));
  try {
    await assert.rejects(exec(none, "here", ["true"]), /cannot reach the running mesh/);
  } finally {
    await rm(none, { recursive: true });
  }
});
