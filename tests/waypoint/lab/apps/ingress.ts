/**
 * A reverse proxy as people put one at the edge of a cluster: node:http, streaming both ways, with upgrades. It knows nothing of a mesh.
 *
 *   ingress.ts NAME PREFIX=HOST:PORT…    `/shop/x` of `/shop=10.96.0.1:80` goes there as `/x`, on port 80 of its pod
 *
 * Keeps upstream connections, as reverse proxies do.
 */
import { Agent, createServer, type IncomingMessage, request, type RequestOptions } from "node:http";
import type { Duplex } from "node:stream";
import process from "node:process";

const [name = "ingress", ...routes] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: 16 });

function upstreamOf(request: IncomingMessage): RequestOptions | undefined {
  for (const route of routes) {
    const at = route.indexOf("=");
    const prefix = route.slice(0, at);
    const [host = "", port = ""] = route.slice(at + 1).split(":");
    if (request.url?.startsWith(`${prefix}/`) !== true) continue;
    const forwarded = request.socket.remoteAddress?.replace("::ffff:", "") ?? "";
    const headers = { ...request.headers, "x-forwarded-for": forwarded, "x-ingress": name };
    return { host, port, method: request.method ?? "GET", path: request.url.slice(prefix.length), headers };
  }
  return undefined;
}

const server = createServer((incoming, outgoing) => {
  const upstream = upstreamOf(incoming);
  if (upstream === undefined) return outgoing.writeHead(404).end();
  const sent = request({ ...upstream, agent }, (answer) => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(outgoing);
  });
  sent.on("error", (error) => {
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(502).end(`the ingress: ${error.message}`);
  });
  incoming.pipe(sent);
});

server.on("upgrade", (incoming: IncomingMessage, near: Duplex, head: Uint8Array) => {
  const upstream = upstreamOf(incoming);
  if (upstream === undefined) return near.destroy();
  const sent = request({ ...upstream, agent: false });
  sent.on("error", () => near.destroy());
  sent.on("upgrade", (answer, far, first) => {
    const lines = Object.entries(answer.headers).map(([key, value]) => `${key}: ${value}\r\n`).join("");
    near.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`);
    if (head.length > 0) far.write(head);
    if (first.length > 0) near.write(first);
    for (const [from, to] of [[near, far], [far, near]] as const) {
      from.on("error", () => to.destroy());
      from.pipe(to);
    }
  });
  sent.end();
});

server.listen(80, "::", () => process.stdout.write(`${JSON.stringify({ serves: name })}\n`));
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
