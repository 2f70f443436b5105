/** What `ambit local` prints: the mesh at a glance, and every line of its processes with its author. */
import { isAbsolute, relative } from "node:path";
import type { MeshFile, MeshPod, Problem } from "../control/local/mesh_file.ts";
import { selfCommand } from "./self.ts";

/** Writes whole lines. */
export class Speaker {
  readonly #write: (text: string) => void;
  #width = 6;

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /** A line that `who` said. */
  say(who: string, line: string): void {
    this.#width = Math.max(this.#width, who.length);
    this.#write(`${who.padEnd(this.#width)} | ${line}\n`);
  }

  /** A text of ambit's own. */
  tell(text: string): void {
    this.#write(`${text}\n`);
  }
}

/** `file:line:column: what`, as editors and terminals make links of. */
export function describeProblems(file: string, problems: readonly Problem[]): string {
  const lines = problems.map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`);
  return lines.length === 1 ? lines[0]! : `${lines.length} problems\n${lines.join("\n")}`;
}

/** Who is where, and how to try it. */
export function describeMesh(file: string, mesh: MeshFile, tookMs: number): string {
  const { nodes, pods } = mesh;
  const table = nodes.flatMap((node) => [
    `  ${node.name}  ${node.addresses.join("  ")}`,
    ...pods.filter((pod) => pod.node === node.name).map((pod) =>
      `    ${`${pod.namespace}/${pod.name}`.padEnd(28)} ${pod.addresses.join("  ").padEnd(30)} ${
        describePod(pod, mesh)
      }`
    ),
  ]);
  return [
    `The mesh of ${file} is up after ${(tookMs / 1000).toFixed(1)} s: ${counts(mesh)}.`,
    ...table,
    ...hints(mesh),
  ].join("\n");
}

/** Waypoints by themselves, and not as the pods and Services that they are too. */
function counts({ nodes, pods, resources, waypoints, kube }: MeshFile): string {
  const policies = resources.policies.length + kube.policies.filter(({ target }) => target.kind === "refs").length;
  return [
    count(nodes.length, "node"),
    count(pods.length - waypoints.length, "pod"),
    count(resources.services.length - waypoints.length, "service"),
    policies === 1 ? "1 policy" : `${policies} policies`,
    ...(waypoints.length > 0 ? [count(waypoints.length, "waypoint"), count(kube.routes.length, "route")] : []),
  ].join(", ");
}

function describePod(pod: MeshPod, { waypoints }: MeshFile): string {
  const waypoint = waypoints.find((waypoint) => waypoint.pod === pod);
  if (waypoint === undefined) return pod.captured ? pod.identity : "(outside the mesh)";
  const passing = [...waypoint.services, ...waypoint.workloads].map((key) => key.slice(key.lastIndexOf("/") + 1));
  return `${pod.identity} (waypoint of ${passing.length === 0 ? "nobody" : passing.join(", ")})`;
}

function hints({ nodes, pods, hosts }: MeshFile): string[] {
  const exec = selfCommand(["local", "exec"]).map(shorten).join(" ");
  const client = pods.find((pod) => pod.captured && pod.command === undefined) ?? pods[0];
  const service = hosts[0]?.names[0];
  return [
    ...(client && service ? [`Try:   ${exec} ${nameOf(client, pods)} -- curl -s http://${service}/`] : []),
    ...(nodes[0] ? [`Look:  ${exec} ${nodes[0].name} -- curl -s localhost:15000/config_dump`] : []),
    "Stop:  Ctrl-C",
  ];
}

/** The shortest name that means only this pod. */
function nameOf(pod: MeshPod, pods: readonly MeshPod[]): string {
  const alone = pods.filter((other) => other.name === pod.name).length === 1;
  return alone ? pod.name : `${pod.namespace}/${pod.name}`;
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

/** A path as it is typed from here, when that is shorter. */
function shorten(word: string): string {
  if (!isAbsolute(word)) return word;
  const near = relative(process.cwd(), word);
  return near.length < word.length ? near : word;
}
