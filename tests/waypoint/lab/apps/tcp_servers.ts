/** Plain TCP: an echo that says its name before each chunk, and a server that speaks first, as databases and mail servers do. */
import { createServer, type Socket } from "node:net";
import { PORTS } from "./protocol.ts";

export async function startTcpServers(app: string): Promise<void> {
  const echo = (socket: Socket) => {
    socket.on("data", (chunk: Uint8Array) => socket.write(Buffer.concat([Buffer.from(`${app}: `), chunk])));
    socket.on("error", () => {});
  };
  await listen(PORTS.echo, echo);
  await listen(PORTS.serverFirst, (socket) => {
    socket.write(`220 ${app}\n`);
    echo(socket);
  });
}

function listen(port: number, accepted: (socket: Socket) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    // The client's end of stream is answered with the own, after all that was to be said.
    const server = createServer({ allowHalfOpen: false }, accepted);
    server.on("error", reject);
    server.listen(port, "::", resolve);
  });
}
