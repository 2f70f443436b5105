/**
 * One exchange between two pods and all that can be seen of it: what client and application see, both reporters' counters, both
 * access-log lines. The client sends 11 bytes, the application answers with 22.
 */
import assert from "node:assert/strict";
import { ANSWER, APP_PORT, type Path, REQUEST, socketAddress } from "../../e2e/support/exchange.ts";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { minus } from "../../e2e/support/metrics.ts";
import { eventually } from "../../e2e/support/wait.ts";
import type { AccessLine } from "../../e2e/support/ztunnel_process.ts";
import type { LabNode } from "./node.ts";
import type { LabPod, ProxyView } from "./pod.ts";

export { ANSWER, APP_PORT, REQUEST, socketAddress };

export interface LabExchange {
  readonly client: LabPod;
  readonly server: LabPod;
  /** How it goes from proxy to proxy. */
  readonly path: Path;
  /** Where the client connects to; default: the server itself. */
  readonly ip?: string;
  readonly port?: number;
  /** Host name, when `ip` is a service's. */
  readonly service?: string;
}

/** Bytes both ways and an end in order; the application sees the client's own address. */
export async function converse({ client, server, ip, port }: LabExchange): Promise<void> {
  const connect = () => client.connect(ip ?? server.ip(), port ?? APP_PORT);
  const [peer, application] = await acceptOne(server, APP_PORT, connect);
  assert.ok(client.facts.addresses.includes(application.remote.ip), `the application sees ${application.remote.ip}`);
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

/** Does the exchange and asserts all of it. */
export async function checkExchange(exchange: LabExchange): Promise<void> {
  const { client, server } = exchange;
  const sides = [
    ...(client.facts.captured ? [{ reporter: "source", node: proxyOf(client) }] as const : []),
    ...(server.facts.captured ? [{ reporter: "destination", node: proxyOf(server) }] as const : []),
  ];
  const marks = sides.map(({ node }) => node.ztunnel.mark);
  const labels = metricLabels(exchange);
  const before = await Promise.all(sides.map(({ reporter, node }) => node.traffic({ reporter, ...labels })));

  await converse(exchange);

  for (const [i, { reporter, node }] of sides.entries()) {
    await eventually(async () => {
      const delta = minus(await node.traffic({ reporter, ...labels }), before[i]!);
      assert.deepEqual(delta, { opened: 1, closed: 1, received: REQUEST.length, sent: ANSWER.length }, reporter);
    });
    const direction = reporter === "source" ? "outbound" : "inbound";
    const line = await node.ztunnel.access(
      ({ fields }) => fields.direction === direction && fields["src.workload"] === client.name,
      marks[i]!,
    );
    checkLine(exchange, line);
  }
}

function proxyOf(pod: LabPod): ProxyView {
  return pod.dedicated ?? nodeOf(pod);
}

export function nodeOf(pod: LabPod): LabNode {
  return pod.mesh.nodes.get(pod.facts.node)!;
}

/** Those of the series that the exchange must count in. */
function metricLabels({ client, server, path, service }: LabExchange): Readonly<Record<string, string>> {
  const mutual = path === "hbone";
  return {
    source_workload: client.name,
    source_workload_namespace: client.namespace,
    source_principal: mutual ? client.identity : "unknown",
    destination_workload: server.name,
    destination_workload_namespace: server.namespace,
    destination_principal: mutual ? server.identity : "unknown",
    connection_security_policy: mutual ? "mutual_tls" : "unknown",
    destination_cluster: "Kubernetes",
    ...(service === undefined ? {} : { destination_service: service }),
  };
}

function checkLine({ client, server, path, service }: LabExchange, { level, message, fields }: AccessLine): void {
  const outbound = fields.direction === "outbound";
  assert.equal(message, "connection complete");
  assert.equal(level, "info");
  assert.ok(fields["src.addr"]!.startsWith(`${client.ip()}:`), fields["src.addr"]);
  assert.equal(fields["src.namespace"], client.namespace);
  assert.equal(fields["src.identity"], path === "hbone" ? client.identity : undefined);
  assert.equal(fields["dst.workload"], server.name);
  assert.equal(fields["dst.namespace"], server.namespace);
  assert.equal(fields["dst.identity"], path === "hbone" ? server.identity : undefined);
  assert.equal(fields["dst.addr"], socketAddress(server.ip(), path === "hbone" ? 15008 : APP_PORT));
  assert.equal(fields["dst.hbone_addr"], path === "hbone" ? socketAddress(server.ip(), APP_PORT) : undefined);
  if (service !== undefined) assert.equal(fields["dst.service"], service);
  // Counted from the local workload: the client's proxy sent the request, the server's proxy received it.
  assert.equal(fields.bytes_sent, String(outbound ? REQUEST.length : ANSWER.length));
  assert.equal(fields.bytes_recv, String(outbound ? ANSWER.length : REQUEST.length));
  assert.equal(fields.error, undefined);
}
