/**
 * `ambit local exec POD -- command`: asks the `ambit local` that is running on this machine to run a command in one of its pods
 * or nodes, and passes on what it prints.
 */
import { connect } from "node:net";
import { join } from "node:path";
import { LineReader } from "../control/local/line_reader.ts";
import { decodeExecReply, EXEC_MAX_LINE_BYTES, EXEC_SOCKET, type ExecRequest } from "./exec_messages.ts";
import { listRuns } from "./run_directory.ts";

export interface ExecOutput {
  stdout(bytes: Uint8Array): void;
  stderr(bytes: Uint8Array): void;
}

/** Resolves with the command's exit code. Rejects when there is no running mesh, or it refuses. */
export async function execInMesh(request: ExecRequest, output: ExecOutput, directory?: string): Promise<number> {
  return await execAt(join(directory ?? await findRun(), EXEC_SOCKET), request, output);
}

/** The newest running mesh of this user. */
async function findRun(): Promise<string> {
  const running = (await listRuns()).filter((run) => run.alive);
  const newest = running.at(-1);
  if (newest === undefined) throw new Error("no mesh is running; start one with: ambit local mesh.yaml");
  return newest.path;
}

function execAt(path: string, request: ExecRequest, output: ExecOutput): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const reader = new LineReader(EXEC_MAX_LINE_BYTES);
    socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on("error", (error) => reject(new Error(`cannot reach the running mesh: ${error.message}`)));
    socket.on("close", () => reject(new Error("the mesh has ended")));
    socket.on("data", (chunk: Uint8Array) => {
      try {
        reader.push(chunk, (line) => {
          const reply = decodeExecReply(line);
          switch (reply.type) {
            case "stdout":
            case "stderr":
              return output[reply.type](Buffer.from(reply.data, "base64"));
            case "exit":
              return resolve(reply.code);
            case "error":
              return reject(new Error(reply.message));
          }
        });
      } catch (error) {
        reject(error as Error);
        socket.destroy();
      }
    });
  });
}
