/**
 * One exchange between two pods and everything that can be seen of it: what client and application see, both reporters'
 * counters, both access-log lines. The client sends 11 bytes, the application answers with 22.
 */
import assert from "node:assert/strict";
import { acceptOne, type TestMesh, type TestPod } from "./mesh.ts";
import { minus } from "./metrics.ts";
import type { AccessLine } from "./ztunnel_process.ts";
import { eventually } from "./wait.ts";

export const REQUEST = "hello world";
export const ANSWER = "hello world hello mesh";
export const APP_PORT = 8080;

/** How a connection goes from proxy to proxy. */
export type Path = "hbone" | "tcp";

export interface Exchange {
  readonly mesh: TestMesh;
  readonly client: TestPod;
  readonly server: TestPod;
  /** Where the client connects to. */
  readonly ip: string;
  readonly port: number;
  readonly path: Path;
  /** Host name, when `ip` is a service's. */
  readonly service?: string;
  /** The mesh knows nothing of the destination. */
  readonly unknownServer?: boolean;
}

/** Does the exchange and asserts all of it. */
export async function checkExchange(exchange: Exchange): Promise<void> {
  const { mesh, client, server } = exchange;
  const sides = [
    ...(client.spec.captured ? [{ reporter: "source", node: mesh.nodeOf(client) }] as const : []),
    ...(server.spec.captured ? [{ reporter: "destination", node: mesh.nodeOf(server) }] as const : []),
  ];
  const marks = sides.map(({ node }) => node.ztunnel.mark);
  const labels = sides.map(({ reporter }) => metricLabels(exchange, reporter));
  const before = await Promise.all(sides.map(({ node }, i) => node.traffic(labels[i]!)));

  await converse(exchange);

  for (const [i, { reporter, node }] of sides.entries()) {
    await eventually(async () => {
      const delta = minus(await node.traffic(labels[i]!), before[i]!);
      assert.deepEqual(delta, { opened: 1, closed: 1, received: REQUEST.length, sent: ANSWER.length }, reporter);
    });
    const direction = reporter === "source" ? "outbound" : "inbound";
    const line = await node.ztunnel.access(({ fields }) => fields.direction === direction, marks[i]!);
    checkLine(exchange, line);
  }
}

/** The application sees the client's own address, on every path. */
async function converse({ client, server, ip, port }: Exchange): Promise<void> {
  const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(ip, port));
  assert.ok(client.spec.addresses.includes(application.remote.ip), `the application sees ${application.remote.ip}`);
  peer.write(REQUEST);
  assert.equal(await application.read(REQUEST.length), REQUEST);
  application.write(ANSWER);
  assert.equal(await peer.read(ANSWER.length), ANSWER);
  peer.finish();
  assert.equal(await application.ended(), "eof");
  application.finish();
  assert.equal(await peer.ended(), "eof");
  peer.close();
  application.close();
}

function metricLabels({ client, server, path, service, unknownServer }: Exchange, reporter: string) {
  const mutual = path === "hbone";
  const destination = unknownServer && reporter === "source" ? "unknown" : server.spec.name;
  return {
    reporter,
    source_workload: client.spec.name,
    source_principal: mutual ? client.identity : "unknown",
    destination_workload: destination,
    destination_principal: mutual ? server.identity : "unknown",
    connection_security_policy: mutual ? "mutual_tls" : "unknown",
    ...(service === undefined ? {} : { destination_service: service }),
  };
}

function checkLine({ client, server, ip, path, service, unknownServer }: Exchange, line: AccessLine): void {
  const { fields } = line;
  const outbound = fields.direction === "outbound";
  const target = fields["dst.addr"]!.replace(/^\[?(.*?)\]?:\d+$/, "$1");
  if (service === undefined) assert.equal(target, ip);
  assert.ok(server.spec.addresses.includes(target));
  assert.equal(line.message, "connection complete");
  assert.equal(line.level, "info");
  assert.equal(fields["src.workload"], client.spec.name);
  assert.ok(
    client.spec.addresses.some((address) => fields["src.addr"]!.startsWith(socketAddress(address, 0).slice(0, -1))),
  );
  assert.equal(fields["src.identity"], path === "hbone" ? client.identity : undefined);
  assert.equal(fields["dst.workload"], unknownServer && outbound ? undefined : server.spec.name);
  assert.equal(fields["dst.identity"], path === "hbone" ? server.identity : undefined);
  assert.equal(fields["dst.addr"], socketAddress(target, path === "hbone" ? 15008 : APP_PORT));
  assert.equal(fields["dst.hbone_addr"], path === "hbone" ? socketAddress(target, APP_PORT) : undefined);
  if (service !== undefined) assert.equal(fields["dst.service"], service);
  // Counted from the local workload: the client's proxy sent the request, the server's proxy received it.
  assert.equal(fields.bytes_sent, String(outbound ? REQUEST.length : ANSWER.length));
  assert.equal(fields.bytes_recv, String(outbound ? ANSWER.length : REQUEST.length));
  assert.match(fields.duration!, /^\d+ms$/);
  assert.equal(fields.error, undefined);
}

export function socketAddress(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}
