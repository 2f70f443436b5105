/**
 * `deno task demo`: brings up examples/bookstore.yaml, sends real HTTP between its pods, and shows for each request who talked to
 * whom, with which identities, over which path, and which rule refused it. Exit code 0 only if all of it was so.
 *
 * What it shows is read from the access logs of the ztunnels and the waypoint. `AMBIT_BINARY=dist/ambit` runs it with a compiled ambit.
 */
import process from "node:process";
import type { AccessLine } from "./demo/access_line.ts";
import { ambitCommand, MeshProcess } from "./demo/mesh_process.ts";

const MESH = new URL("../examples/bookstore.yaml", import.meta.url).pathname;
const HBONE_PORT = ":15008";

const color = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const paint = (code: number) => (text: string) => color ? `\x1b[${code}m${text}\x1b[0m` : text;
const [bold, dim, red, green, cyan] = [1, 2, 31, 32, 36].map(paint) as [Paint, Paint, Paint, Paint, Paint];
type Paint = (text: string) => string;

let failures = 0;

/** One thing that must be so. */
function expect(holds: boolean, what: string): void {
  console.log(`   ${holds ? green("✓") : red("✗")} ${what}`);
  if (!holds) failures++;
}

/** A hop of a request as its ztunnels tell it. `client` and `server` are nodes; undefined: that end has no ztunnel. */
interface Hop {
  readonly from: string;
  readonly to: string;
  readonly client: string | undefined;
  readonly server: string;
  readonly allowed: boolean;
}

async function showHop(mesh: MeshProcess, hop: Hop, mark: number): Promise<AccessLine> {
  const inbound = await mesh.access(
    hop.server,
    ({ fields }) => fields.direction === "inbound" && fields["dst.workload"] === hop.to && isFrom(fields, hop),
    mark,
  );
  const source = inbound.fields["src.identity"];
  if (hop.from === "waypoint") {
    console.log(dim(`     waypoint ═ HBONE ═ ztunnel ${hop.server} → ${hop.to}`));
    expect(source?.endsWith("/sa/waypoint") ?? false, "came from the waypoint, which proved to be it");
  } else if (hop.client === undefined) {
    console.log(dim(`     ${hop.from} ─ plain TCP, no identity → ztunnel ${hop.server} → ${hop.to}`));
    expect(source === undefined, "came without an identity");
  } else {
    const outbound = await mesh.access(
      hop.client,
      ({ fields }) =>
        fields.direction === "outbound" && fields["src.workload"] === hop.from &&
        fields["dst.workload"] === hop.to,
      mark,
    );
    const target = outbound.fields["dst.identity"];
    console.log(
      dim(
        `     ${hop.from} → ztunnel ${hop.client} ═ HBONE to ${
          outbound.fields["dst.addr"]
        } ═ ztunnel ${hop.server} → ${hop.to}`,
      ),
    );
    console.log(dim(`     client ${cyan(source ?? "?")}`));
    console.log(dim(`     server ${cyan(target ?? "?")}`));
    expect(outbound.fields["dst.addr"]?.endsWith(HBONE_PORT) ?? false, "went through the HBONE tunnel");
    expect(source?.endsWith(`/sa/${accountOf(hop.from)}`) ?? false, `the client proved to be ${accountOf(hop.from)}`);
    expect(
      target?.endsWith(`/sa/${accountOf(hop.to)}`) ?? !hop.allowed,
      `the server proved to be ${accountOf(hop.to)}`,
    );
  }
  expect((inbound.fields.error === undefined) === hop.allowed, hop.allowed ? "was allowed" : "was refused");
  return inbound;
}

/** Versions of an application have one service account. */
function accountOf(pod: string): string {
  return pod.replace(/-v\d+$/, "");
}

/** A request at the waypoint, as its own log tells it. `details` is a part of Envoy's RESPONSE_CODE_DETAILS. */
interface Request {
  readonly from: string;
  readonly status: number;
  readonly details: string;
}

async function showWaypoint(mesh: MeshProcess, { from, status, details }: Request, mark: number): Promise<void> {
  const line = await mesh.line((line) => /^waypoint +\| \[/.test(line), mark);
  const [, request, code, , why] = /"([A-Z]+ \S+) [^"]*" (\d+) (\S+) (\S+)/.exec(line) ?? [];
  const [, identity] = /src\.identity="([^"]*)"/.exec(line) ?? [];
  console.log(dim(`     ${from} → ztunnel ═ HBONE ═ waypoint: ${request} ${code} ${why}`));
  console.log(dim(`     client ${cyan(identity ?? "?")}`));
  expect(identity?.endsWith(`/sa/${from}`) ?? false, `the waypoint saw that it is ${from}`);
  expect(code === `${status}`, `answered ${status}`);
  expect(why?.includes(details) ?? false, status === 200 ? "handed it on" : `by ${details}`);
}

/** A connection without an identity carries no workload that was proved, so the client is known by its address's workload or not at all. */
function isFrom(fields: AccessLine["fields"], hop: Hop): boolean {
  const isPlain = hop.client === undefined && hop.from !== "waypoint";
  return isPlain ? fields["src.identity"] === undefined : fields["src.workload"] === hop.from;
}

/** Sends a request and shows the command as a person would type it. */
async function curl(mesh: MeshProcess, pod: string, ...args: string[]) {
  const shown = args.map((arg) => arg.includes(" ") ? `'${arg}'` : arg).join(" ");
  console.log(`   $ ${bold(`ambit local exec ${pod} -- curl -sS ${shown}`)}`);
  const result = await mesh.exec(pod, ["curl", "-sS", "-m", "10", ...args]);
  console.log(
    `     ${
      result.code !== 0 ? result.stderr.trim() : isEcho(result.stdout) ? describeAnswer(result.stdout) : result.stdout
    }`,
  );
  return result;
}

/** What `ambit echo` answers with. */
interface EchoAnswer {
  readonly service: string;
  readonly node: string;
  readonly client: string;
  readonly calls: readonly { readonly status: number; readonly answer: EchoAnswer }[];
}

/** Anything else is a refusal on the way. */
function isEcho(text: string): boolean {
  return text.startsWith("{");
}

function describeAnswer(text: string): string {
  const describe = ({ service, node, client, calls }: EchoAnswer): string =>
    [
      `${service} on ${node} answered ${client}`,
      ...calls.map(({ answer }) => describe(answer)),
    ].join(", and had asked: ");
  return describe(JSON.parse(text) as EchoAnswer);
}

function title(text: string): void {
  console.log(`\n${bold(text)}`);
}

const startedAt = performance.now();
console.log(`Starting ${dim(ambitCommand(["local", "examples/bookstore.yaml"]).join(" "))}`);
const mesh = await MeshProcess.start([MESH]);
try {
  await mesh.up();
  console.log(dim(`(up; waiting for the servers)`));
  for (const name of ["productpage", "reviews-v1", "reviews-v2", "ratings"]) {
    await mesh.line((line) => line.includes(`${name} listens on port`));
  }
  for (const line of mesh.lines.filter((line) => !line.includes(" | ") && !/^(Try|Look|Stop):/.test(line))) {
    console.log(line);
  }

  title("1. A shopper opens the product page, which asks reviews, which asks ratings");
  let mark = mesh.lines.length;
  const page = await curl(mesh, "shopper", "http://productpage/");
  expect(page.code === 0 && page.stdout.includes(`"service":"ratings"`), "the answer came from all three services");
  expect(page.stdout.includes(`"service":"reviews-v1"`), "of reviews the version for everybody answered");
  await showHop(mesh, { from: "shopper", to: "productpage", client: "node-b", server: "node-a", allowed: true }, mark);
  await showWaypoint(mesh, { from: "productpage", status: 200, details: "via_upstream" }, mark);
  await showHop(mesh, { from: "waypoint", to: "reviews-v1", client: undefined, server: "node-b", allowed: true }, mark);
  await showHop(mesh, { from: "reviews-v1", to: "ratings", client: "node-b", server: "node-a", allowed: true }, mark);

  title("2. productpage asks reviews as a tester: an HTTPRoute sends it to the new version");
  mark = mesh.lines.length;
  const tester = await curl(mesh, "productpage", "-H", "x-tester: yes", "http://reviews/");
  expect(tester.stdout.includes(`"service":"reviews-v2"`), "reviews-v2 answered");
  await showWaypoint(mesh, { from: "productpage", status: 200, details: "via_upstream" }, mark);
  await showHop(mesh, { from: "waypoint", to: "reviews-v2", client: undefined, server: "node-b", allowed: true }, mark);

  title("3. productpage writes to reviews: a DENY policy of requests lets it read and nothing else");
  mark = mesh.lines.length;
  const write = await curl(mesh, "productpage", "-X", "POST", "http://reviews/");
  expect(write.stdout === "RBAC: access denied", "got the waypoint's refusal");
  await showWaypoint(
    mesh,
    { from: "productpage", status: 403, details: "ns[bookstore]-policy[reviews-read-only]-rule[0]" },
    mark,
  );

  title("4. The shopper asks reviews: it is on no ALLOW list of the waypoint");
  mark = mesh.lines.length;
  const reviews = await curl(mesh, "shopper", "http://reviews/");
  expect(reviews.stdout === "RBAC: access denied", "got the waypoint's refusal");
  await showWaypoint(mesh, { from: "shopper", status: 403, details: "matched_policy[none]" }, mark);

  title(
    "5. The shopper goes past the waypoint, to the pod's own address: the pod's ztunnel lets in the waypoint alone",
  );
  mark = mesh.lines.length;
  const past = await curl(mesh, "shopper", `http://${addressOf("reviews-v1")}:8080/`);
  expect(past.code !== 0, "got no answer");
  showRule(
    await showHop(
      mesh,
      { from: "shopper", to: "reviews-v1", client: "node-b", server: "node-b", allowed: false },
      mark,
    ),
    "bookstore/reviews-through-waypoint",
  );

  title("6. The shopper asks ratings: a DENY rule keeps everybody out who is not of the bookstore");
  mark = mesh.lines.length;
  const ratings = await curl(mesh, "shopper", "http://ratings/");
  expect(ratings.code !== 0, "got no answer");
  showRule(
    await showHop(mesh, { from: "shopper", to: "ratings", client: "node-b", server: "node-a", allowed: false }, mark),
    "bookstore/ratings-not-for-outsiders",
  );

  title("7. A stranger outside the mesh opens the product page: no policy there asks for an identity");
  mark = mesh.lines.length;
  const plain = await curl(mesh, "stranger", `http://${addressOf("productpage")}:8080/`);
  expect(plain.code === 0 && plain.stdout.includes(`"service":"ratings"`), "the answer came from all three services");
  await showHop(
    mesh,
    { from: "stranger", to: "productpage", client: undefined, server: "node-a", allowed: true },
    mark,
  );

  title("8. The stranger asks ratings: without an identity it is of no namespace, so the DENY rule holds");
  mark = mesh.lines.length;
  const refused = await curl(mesh, "stranger", `http://${addressOf("ratings")}:8080/`);
  expect(refused.code !== 0, "got no answer");
  showRule(
    await showHop(mesh, { from: "stranger", to: "ratings", client: undefined, server: "node-a", allowed: false }, mark),
    "bookstore/ratings-not-for-outsiders",
  );

  title("9. The same first request over IPv6");
  mark = mesh.lines.length;
  const v6 = await curl(mesh, "shopper", "-6", "http://productpage/");
  expect(v6.code === 0 && v6.stdout.includes(`"client":"fd00:`), "productpage saw the shopper's own IPv6 address");
  await showHop(mesh, { from: "shopper", to: "productpage", client: "node-b", server: "node-a", allowed: true }, mark);

  title("10. Ctrl-C");
  const code = await mesh.end("SIGINT");
  expect(code === 0, "ambit ended with exit code 0");
  const left = await mesh.leftOvers();
  expect(left.length === 0, `left nothing behind${left.length === 0 ? "" : `, but ${left.join(", ")}`}`);
} catch (error) {
  failures++;
  console.error(red(`\n${(error as Error).message}`));
} finally {
  await mesh.dispose();
}

const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
if (failures === 0) console.log(green(`\nAll of it was so, in ${seconds} s.`));
else console.log(red(`\n${failures} of it ${failures === 1 ? "was" : "were"} not so.`));
process.exit(failures === 0 ? 0 : 1);

function addressOf(pod: string): string {
  const line = mesh.lines.find((line) => line.includes(`/${pod} `)) ?? "";
  return /(\d+\.){3}\d+/.exec(line)?.[0] ?? "";
}

function showRule(inbound: AccessLine, policy: string): void {
  const error = inbound.fields.error ?? "";
  console.log(dim(`     ${red(error)}`));
  expect(error.includes(policy), `by the rule ${policy}`);
}
