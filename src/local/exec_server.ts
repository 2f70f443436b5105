/**
 * Runs commands in pods and nodes for `ambit local exec`. A command ends with its client.
 */
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { LineReader } from "../control/local/line_reader.ts";
import { decodeExecRequest, EXEC_MAX_LINE_BYTES, type ExecReply, type ExecRequest } from "./exec_messages.ts";

export interface ExecPlace {
  readonly netns: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Throws with a text for the person when `where` names nothing, or more than one thing. */
export type FindPlace = (where: string) => ExecPlace;

/** Listens on `path` until the function it resolves with is called. */
export async function serveExec(path: string, find: FindPlace): Promise<() => void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    serveClient(socket, find);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => resolve());
  });
  return () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
}

function serveClient(socket: Socket, find: FindPlace): void {
  const reader = new LineReader(EXEC_MAX_LINE_BYTES);
  let started = false;
  socket.on("error", () => {});
  socket.on("data", (chunk: Uint8Array) => {
    try {
      reader.push(chunk, (line) => {
        if (started) return;
        started = true;
        run(socket, decodeExecRequest(line), find);
      });
    } catch (error) {
      finish(socket, { type: "error", message: (error as Error).message });
    }
  });
}

function run(socket: Socket, { where, command }: ExecRequest, find: FindPlace): void {
  const { netns, env } = find(where);
  const child = spawn("nsenter", [`--net=${netns}`, "--", ...command], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    detached: true, // a group of its own, so that all of it ends with the client
  });
  for (const type of ["stdout", "stderr"] as const) {
    child[type].on("data", (chunk: Uint8Array) => {
      const reply: ExecReply = { type, data: Buffer.from(chunk).toString("base64") };
      if (!socket.write(`${JSON.stringify(reply)}\n`)) {
        child[type].pause();
        socket.once("drain", () => child[type].resume());
      }
    });
  }
  child.on("error", (error) => finish(socket, { type: "error", message: error.message }));
  child.on("close", (code) => finish(socket, { type: "exit", code: code ?? 1 }));
  socket.on("close", () => {
    if (child.exitCode !== null || child.pid === undefined) return;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // it has ended by itself
    }
  });
}

function finish(socket: Socket, reply: ExecReply): void {
  if (!socket.destroyed) socket.end(`${JSON.stringify(reply)}\n`);
}
