/**
 * `ambit echo`: a small HTTP server for pods of a local mesh. It answers with who it is and who asked, and may call
 * other services first, so that examples have real traffic between real programs.
 */
import { createServer, request } from "node:http";
import { parseArgs } from "node:util";

const USAGE = `usage: ambit echo [--port 8080] [--name NAME] [--call URL]...

Answers every request with one line of JSON. With --call it asks each URL first and shows the answers.
`;

/** A called service that hangs must not hang its caller for long; in milliseconds. */
const CALL_TIMEOUT_MS = 5_000;

/** Serves until SIGTERM or SIGINT. Resolves with the exit code. */
export async function runEcho(args: readonly string[]): Promise<number> {
  let options;
  try {
    options = parseArgs({
      args: [...args],
      options: {
        port: { type: "string", default: "8080" },
        name: { type: "string", default: process.env.POD_NAME ?? "echo" },
        call: { type: "string", multiple: true, default: [] },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`ambit echo: ${(error as Error).message}\n${USAGE}`);
    return 2;
  }
  const port = Number(options.port);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    process.stderr.write(`ambit echo: --port must be 1 to 65535, is ${options.port}\n`);
    return 2;
  }
  const { name, call } = options;
  const server = createServer(async (asked, response) => {
    const client = asked.socket.remoteAddress?.replace(/^::ffff:/, "");
    const calls = await Promise.all(call.map((url) => ask(url)));
    const body = {
      service: name,
      pod: process.env.POD_NAME,
      node: process.env.NODE_NAME,
      path: asked.url,
      client,
      calls,
    };
    // A connection for each request, so that each shows in the access logs on its way.
    response.shouldKeepAlive = false;
    response.writeHead(calls.every((answer) => answer.status === 200) ? 200 : 502, {
      "content-type": "application/json",
    });
    response.end(`${JSON.stringify(body)}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "::", () => resolve());
  });
  console.log(`${name} listens on port ${port}`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  server.closeAllConnections();
  return 0;
}

interface Answer {
  readonly url: string;
  /** Undefined: no HTTP answer at all. */
  readonly status: number | undefined;
  readonly answer: unknown;
}

/** Over a connection of its own, for the same reason. */
function ask(url: string): Promise<Answer> {
  return new Promise((resolve) => {
    const fail = (error: Error) => resolve({ url, status: undefined, answer: error.message });
    const asking = request(url, { agent: false, timeout: CALL_TIMEOUT_MS }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => text += part);
      response.on("end", () => resolve({ url, status: response.statusCode, answer: readJson(text) }));
      response.on("error", fail);
    });
    asking.on("timeout", () => asking.destroy(new Error(`no answer in ${CALL_TIMEOUT_MS} ms`)));
    asking.on("error", fail);
    asking.end();
  });
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text.trim();
  }
}
