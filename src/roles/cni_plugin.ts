/**
 * The CNI plugin: standard input and environment in, one result out, and away. It loads no FFI, no OpenSSL and no
 * worker, and of the rest only what the pod at hand needs.
 */
import { readSync, statSync, writeSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { add } from "../cni/plugin/add.ts";
import { CNI_ERROR, CniError, formatError } from "../cni/plugin/cni_error.ts";
import { openKubeReader } from "../cni/plugin/kube_reader.ts";
import { PluginLogger } from "../cni/plugin/log.ts";
import { type ProtocolIo, runProtocol } from "../cni/plugin/protocol.ts";
import { LATEST_VERSION } from "../cni/plugin/versions.ts";

/** A configuration has a few kilobytes, and what the other plugins made of the pod some more. */
const STDIN_MAX_BYTES = 4 << 20;
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const OWN_NETNS = "/proc/self/ns/net";
/** Between two tries at a pipe that is full or empty. */
const PIPE_WAIT_MS = 2;

/** Runs one call of the plugin and gives the exit code; everything is written when it resolves. */
export async function runCniPlugin(): Promise<number> {
  let answered = false;
  const io: ProtocolIo = {
    env: process.env,
    readStdin,
    writeStdout: (text) => {
      answered = true;
      writeAll(STDOUT, text);
    },
    writeStderr,
    isOwnNetns,
  };
  const log = new PluginLogger({ stderr: writeStderr, now: () => new Date() });
  let panicking = false;
  const panic = (thrown: unknown) => {
    if (panicking) process.exit(1);
    panicking = true;
    const stack = thrown instanceof Error ? thrown.stack ?? thrown.message : String(thrown);
    const error = new CniError(CNI_ERROR.internal, `istio-cni panicked: ${stack}`);
    log.error(error.message);
    if (!answered) io.writeStdout(formatError(error, LATEST_VERSION));
    void log.flush().then(() => process.exit(1));
  };
  process.on("uncaughtException", panic);
  process.on("unhandledRejection", panic);
  const code = await runProtocol(
    io,
    about,
    (request, input) =>
      add(request, input, {
        openReader: ({ agentRunDir }) => openKubeReader(agentRunDir),
        sleep: (ms) => delay(ms),
        nowMs: () => performance.now(),
        log,
      }),
    (error) => log.error(`istio-cni ${process.env["CNI_COMMAND"]} failed: ${error.message}`),
  );
  await log.flush();
  return code;
}

async function about(): Promise<string> {
  const { buildInfo } = await import("../telemetry/build_info.ts");
  return `CNI plugin istio-cni ${buildInfo().version} (ambit)`;
}

/** Pipes of the runtime block; should one not, it is waited for. */
function readStdin(): string {
  const chunks: Uint8Array[] = [];
  for (let bytes = 0;;) {
    const chunk = new Uint8Array(64 * 1024);
    const count = whenReady(() => readSync(STDIN, chunk));
    if (count === 0) return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
    bytes += count;
    if (bytes > STDIN_MAX_BYTES) throw new Error(`it is larger than ${STDIN_MAX_BYTES >> 20} MiB`);
    chunks.push(chunk.subarray(0, count));
  }
}

function writeAll(descriptor: number, text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += whenReady(() => writeSync(descriptor, bytes, at));
}

function writeStderr(text: string): void {
  try {
    writeAll(STDERR, text);
  } catch {
    // Nobody listens.
  }
}

function whenReady(work: () => number): number {
  for (;;) {
    try {
      return work();
    } catch (error) {
      if ((error as { readonly code?: string }).code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_WAIT_MS);
    }
  }
}

/** Namespaces are files: the same one has the same device and inode. */
function isOwnNetns(path: string): boolean {
  const other = statSync(path, { throwIfNoEntry: false });
  if (other === undefined) return false;
  let own;
  try {
    own = statSync(OWN_NETNS);
  } catch {
    throw new CniError(CNI_ERROR.invalidNetns, "get plugin's netns failed");
  }
  return own.ino === other.ino && own.dev === other.dev;
}
