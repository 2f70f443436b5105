/**
 * An application of the lab, both sides in one program: real servers of HTTP, WebSocket and TCP, and real clients that are told what to call. Runs
 * on Deno in its pod's network, whatever build of ambit is under test, so that it shares nothing with it but the kernel. gRPC: grpc_app.ts.
 *
 *   app.ts NAME [CERTIFICATE KEY]
 */
import process from "node:process";
import { callHttp } from "./http_client.ts";
import { startHttpServer } from "./http_server.ts";
import { startLoad } from "./load.ts";
import { followOrders } from "./orders.ts";
import { PORTS } from "./protocol.ts";
import { startTcpServers } from "./tcp_servers.ts";
import { openWebSocket } from "./web_socket.ts";

const [name = "app", certificate, key] = process.argv.slice(2);

startHttpServer(name, PORTS.http);
if (certificate !== undefined && key !== undefined) startHttpServer(name, PORTS.https, { certificate, key });
await startTcpServers(name);
await followOrders(
  name,
  (order) => order.kind === "http" ? callHttp(order) : undefined,
  (order) => order.kind === "load" ? startLoad(order) : order.kind === "web socket" ? openWebSocket(order) : undefined,
);
