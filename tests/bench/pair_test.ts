/** The generator against the real backend, and against servers that answer wrongly. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

function startScript(name: string, args: readonly string[]): ChildProcess {
  const script = fileURLToPath(new URL(`../../scripts/bench/${name}`, import.meta.url));
  const runtime = "Deno" in globalThis ? ["run", "-A"] : [];
  return spawn(process.execPath, [...runtime, script, ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

interface Outcome {
  readonly code: number | null;
  readonly figures: Record<string, number & readonly number[]>;
  readonly errors: string;
}

async function measure(port: number, ...args: readonly string[]): Promise<Outcome> {
  const child = startScript("pair.ts", ["--target", `127.0.0.1:${port}`, "--json", ...args]);
  let [output, errors] = ["", ""];
  child.stdout?.on("data", (chunk) => output += chunk);
  child.stderr?.on("data", (chunk) => errors += chunk);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, figures: code === 0 ? JSON.parse(output) : {}, errors };
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("pair and backend", () => {
  let backend: ChildProcess;
  let port = 0;

  before(async () => {
    port = await freePort();
    backend = startScript("backend.ts", ["--listen", `127.0.0.1:${port}`]);
    await new Promise<void>((resolve, reject) => {
      backend.stdout?.once("data", () => resolve());
      backend.once("exit", (code) => reject(new Error(`backend ended with ${code}`)));
    });
  });

  after(async () => {
    const exited = new Promise((resolve) => backend.once("exit", resolve));
    backend.kill("SIGKILL");
    await exited;
  });

  test("backend: answers a small request, a sized one and closes when asked to", async () => {
    const small = await fetch(`http://127.0.0.1:${port}/`);
    assert.equal((await small.text()).length, 1024);
    const large = await fetch(`http://127.0.0.1:${port}/bytes/1000001`, { headers: { connection: "close" } });
    assert.equal((await large.arrayBuffer()).byteLength, 1_000_001);
  });

  test("pair: keep-alive requests give rate, latency and CPU of the named process", async () => {
    const { figures, errors } = await measure(port, "--seconds", "0.3", "--warmup", "0.1", "--pids", `${backend.pid}`);
    assert.ok(figures.requestsPerSecond > 100, errors);
    assert.ok(figures.p50Us > 0 && figures.p99Us >= figures.p50Us);
    assert.ok(figures.cpuUsPerRequest > 0 && figures.coreShare <= 1.1);
  });

  test("pair: new connections are counted one request each", async () => {
    const { figures, errors } = await measure(port, "--mode", "newconn", "--seconds", "0.3", "--warmup", "0.1");
    assert.ok(figures.connectionsPerSecond > 10, errors);
  });

  test("pair: bulk receives every byte of every connection", async () => {
    const { figures, errors } = await measure(port, "--mode", "bulk", "--megabytes", "20", "--connections", "2");
    assert.ok(figures.gigabitsPerSecond > 0, errors);
  });

  test("pair: idle holds its connections and reads memory around them", async () => {
    const args = ["--mode", "idle", "--connections", "100", "--settle", "0.1", "--pids", `${backend.pid}`];
    const { figures, errors } = await measure(port, ...args);
    assert.equal(figures.rssOpenKib?.length, 1, errors);
    assert.ok(figures.rssOpenKib[0] >= figures.rssBeforeKib[0] / 2);
  });

  test("pair: a process that does not exist ends the measurement", async () => {
    const { code } = await measure(port, "--seconds", "0.1", "--warmup", "0.1", "--pids", "4194304");
    assert.equal(code, 1);
  });
});

async function withServer(listener: RequestListener, use: (port: number) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use((server.address() as AddressInfo).port);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

test("pair: an answer that is not 200 fails the measurement", () =>
  withServer((_, response) => response.writeHead(503).end("no"), async (port) => {
    const { code, errors } = await measure(port, "--seconds", "0.2", "--warmup", "0");
    assert.equal(code, 1);
    assert.match(errors, /not 200: HTTP\/1.1 503/);
  }));

test("pair: an answer of another length fails the measurement", async () => {
  let answers = 0;
  await withServer((_, response) => {
    const body = "x".repeat(answers++ < 5 ? 100 : 101);
    response.writeHead(200, { "content-length": body.length }).end(body);
  }, async (port) => {
    const { code, errors } = await measure(port, "--seconds", "0.5", "--warmup", "0", "--connections", "1");
    assert.equal(code, 1);
    assert.match(errors, /more bytes than/);
  });
});

test("pair: a connection that ends early fails the measurement", () =>
  withServer((request) => request.socket.destroy(), async (port) => {
    const { code, errors } = await measure(port, "--seconds", "0.2", "--warmup", "0", "--connections", "1");
    assert.equal(code, 1);
    assert.match(errors, /closed after 0|connection failed/);
  }));
