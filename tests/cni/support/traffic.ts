/** Traffic between pods, and by which way it went. */
import assert from "node:assert/strict";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { APP_PORT, type CniPod } from "./pod.ts";
import { watchForLeaks } from "./kernel.ts";

type Family = "ipv4" | "ipv6";
/** istiod gathers changes for a moment before it tells its ztunnels. */
const KNOWN_TIMEOUT_MS = 20_000;
const LINE_TIMEOUT_MS = 15_000;

/** An exchange that both pods' ztunnel carried, mutually authenticated; the application sees the client's own address. */
export async function flowsByHbone(client: CniPod, server: CniPod, family: Family = "ipv4"): Promise<void> {
  await eventually(async () => {
    const [from, to] = [client.node.ztunnel.process, server.node.ztunnel.process];
    const [fromMark, toMark] = [from.mark, to.mark];
    const answer = await client.get(server, family);
    assert.equal(answer.name, server.name);
    assert.ok(answer.client.includes(client.ip(family)), `the application saw ${answer.client}`);
    const outbound = await from.access(({ fields }) => is(fields, "outbound", client), fromMark, LINE_TIMEOUT_MS);
    assert.equal(outbound.fields["dst.hbone_addr"], socketAddress(server.ip(family), APP_PORT));
    assert.equal(outbound.fields["src.identity"], client.identity);
    assert.equal(outbound.fields["dst.identity"], server.identity);
    const inbound = await to.access(({ fields }) => is(fields, "inbound", client), toMark, LINE_TIMEOUT_MS);
    assert.equal(inbound.fields["src.identity"], client.identity);
  }, KNOWN_TIMEOUT_MS);
}

/** An exchange that the client's ztunnel passed on as it is, for a server that is not in the mesh. */
export async function flowsThroughZtunnel(client: CniPod, server: CniPod): Promise<void> {
  await eventually(async () => {
    const { process } = client.node.ztunnel;
    const mark = process.mark;
    assert.equal((await client.get(server)).name, server.name);
    const line = await process.access(({ fields }) => is(fields, "outbound", client), mark, LINE_TIMEOUT_MS);
    assert.equal(line.fields["dst.hbone_addr"], undefined);
  }, KNOWN_TIMEOUT_MS);
}

/** An exchange that no ztunnel saw. */
export async function flowsDirectly(client: CniPod, server: CniPod, family: Family = "ipv4"): Promise<void> {
  const marks = [client, server].map(({ node }) => node.ztunnel.process.mark);
  assert.equal((await client.get(server, family)).name, server.name);
  // A line would be there at once; it is printed when the connection ends.
  await pause(150);
  for (const [i, { node }] of [client, server].entries()) {
    const seen = node.ztunnel.process.accessSince(marks[i]!).filter(({ fields }) =>
      fields["src.addr"]?.includes(client.ip(family))
    );
    assert.deepEqual(seen, [], "ztunnel carried it");
  }
}

/** No exchange is possible: refused, broken, or without an answer. */
export async function doesNotFlow(client: CniPod, server: CniPod): Promise<void> {
  const answer = await client.get(server).catch((error) => error as Error);
  assert.ok(answer instanceof Error, `the application of ${server.name} answered`);
}

function is(fields: Readonly<Record<string, string>>, direction: string, client: CniPod): boolean {
  return fields.direction === direction && fields["src.workload"] === client.name &&
    fields["src.namespace"] === client.namespace;
}

function socketAddress(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** One exchange after the other from pod to pod, for as long as a scenario does something to them. */
export class Load {
  completed = 0;
  readonly failures: string[] = [];
  #stop = false;
  readonly #done: Promise<void>;
  #leaked: () => Promise<number>;

  private constructor(client: CniPod, server: CniPod, leaked: () => Promise<number>) {
    this.#leaked = leaked;
    this.#done = this.#run(client, server);
  }

  /** The client must be captured already. */
  static async start(client: CniPod, server: CniPod): Promise<Load> {
    return new Load(client, server, await watchForLeaks(client, APP_PORT));
  }

  /** Waits for `count` more exchanges that succeed. */
  async more(count = 5, timeoutMs = 20_000): Promise<void> {
    const wanted = this.completed + count;
    await eventually(() => {
      if (this.completed < wanted) {
        throw new Error(`${this.completed} exchanges; failures: ${this.failures.slice(-3).join("; ")}`);
      }
    }, timeoutMs);
  }

  /** Ends it. Nothing may have gone past ztunnel. */
  async stop(): Promise<void> {
    this.#stop = true;
    await this.#done;
    assert.equal(await this.#leaked(), 0, "connections went past ztunnel");
  }

  async #run(client: CniPod, server: CniPod): Promise<void> {
    while (!this.#stop) {
      try {
        assert.equal((await client.get(server)).name, server.name);
        this.completed++;
      } catch (error) {
        this.failures.push(error instanceof Error ? error.message : String(error));
      }
      await pause(20);
    }
  }
}
