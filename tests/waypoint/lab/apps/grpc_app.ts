/**
 * The gRPC half of an application: server and client in a process of its own, on Bun, because Deno's HTTP/2 ends its process at some GOAWAYs
 * (an assertion of its nghttp2, seen with Deno 2.9.6).
 *
 *   grpc_app.ts NAME
 */
import process from "node:process";
import { callGrpc, openChat, startGrpcServer } from "./grpc.ts";
import { followOrders } from "./orders.ts";
import { PORTS } from "./protocol.ts";

const [name = "app"] = process.argv.slice(2);

await startGrpcServer(name, PORTS.grpc);
await followOrders(
  name,
  (order) => order.kind === "grpc" ? callGrpc(order) : undefined,
  (order) => order.kind === "chat" ? openChat(order) : undefined,
);
