/**
 * `ambit local`: a whole mesh on this machine. The first half makes namespaces of its own and runs the second in them; the second
 * brings up what the mesh file says, follows its changes, and ends with everything it made.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { LocalConfig } from "../cli/config.ts";
import { createNftablesRedirection } from "../cni/redirection/nftables.ts";
import { DEFAULT_REDIRECTION } from "../cni/redirection/redirection.ts";
import { AddressBook } from "../control/local/addresses.ts";
import { createLocalCa } from "../control/local/ca.ts";
import { DEFAULT_MESH } from "../control/local/default_mesh.ts";
import { readMeshFile } from "../control/local/mesh_file.ts";
import { EXEC_SOCKET } from "../local/exec_messages.ts";
import { serveExec } from "../local/exec_server.ts";
import { mountHosts } from "../local/hosts_file.ts";
import { Machine } from "../local/machine.ts";
import type { NodeAgents } from "../local/node_agents.ts";
import { placeFinder } from "../local/places.ts";
import { waypointEnvironment, waypointFlags, ztunnelEnvironment } from "../local/proxy_environment.ts";
import { mountResolver, RESOLVERS } from "../local/resolver_file.ts";
import { createRunDirectory } from "../local/run_directory.ts";
import { runToolIn } from "../local/run_tool.ts";
import { onSandboxStop, runInSandbox, SANDBOX_VARIABLE } from "../local/sandbox.ts";
import { selfCommand, writeSelfScript } from "../local/self.ts";
import { describeMesh, describeProblems, Speaker } from "../local/speaker.ts";
import { Topology } from "../local/topology.ts";
import { watchFile } from "../local/watch_file.ts";
import { createLog } from "../telemetry/log.ts";

/** Runs until Ctrl-C or SIGTERM. Resolves with the exit code. */
export async function runLocal(config: LocalConfig): Promise<number> {
  const directory = process.env[SANDBOX_VARIABLE];
  delete process.env[SANDBOX_VARIABLE]; // not for the processes of the mesh
  try {
    return directory === undefined ? await runOutside() : await runInside(config, directory);
  } catch (error) {
    process.stderr.write(`ambit local: ${(error as Error).message}\n`);
    return 1;
  }
}

async function runOutside(): Promise<number> {
  const run = await createRunDirectory();
  try {
    return await runInSandbox({ command: selfCommand(process.argv.slice(2)), directory: run.path });
  } finally {
    await run.remove();
  }
}

async function runInside(config: LocalConfig, directory: string): Promise<number> {
  const startedAt = performance.now();
  const stopped = new Promise<void>(onSandboxStop);
  const speaker = new Speaker((text) => process.stdout.write(text));
  const fileName = config.meshFile ?? "the built-in example";
  const text = config.meshFile === undefined ? DEFAULT_MESH : await readFile(config.meshFile, "utf8");
  const book = new AddressBook();
  const first = readMeshFile(text, book);
  if (!first.ok) throw new Error(describeProblems(fileName, first.problems));

  const ca = await createLocalCa(config.stateDir === undefined ? {} : { directory: join(config.stateDir, "ca") });
  const redirection = createNftablesRedirection(runToolIn);
  const topology = await Topology.create(join(directory, "netns"), config.dnsCapture ? RESOLVERS : []);
  const agents = config.cni
    ? await startNodeAgents(config, directory, topology, () => void machine.tellMesh(), speaker)
    : undefined;
  const machine: Machine = new Machine({
    directory,
    topology,
    agents,
    redirect: (netns) => redirection.apply(netns, { ...DEFAULT_REDIRECTION, dnsCapture: config.dnsCapture }),
    sign: (identity, csr) => ca.sign(identity, csr),
    ztunnel: (node, socket, agentSocket) => ({
      command: selfCommand(["ztunnel"]),
      env: ztunnelEnvironment(node, socket, agentSocket, config),
    }),
    waypoint: (pod, socket) => ({
      command: selfCommand(["waypoint", ...waypointFlags(config)]),
      env: waypointEnvironment(pod, socket),
    }),
    podEnv: { PATH: `${await writeSelfScript(join(directory, "bin"))}:${process.env.PATH ?? ""}` },
    say: (who, line) => speaker.say(who, line),
  });
  const setHosts = await mountHosts(join(directory, "hosts"));
  if (config.dnsCapture) await mountResolver(join(directory, "resolv.conf"));
  const closeExec = await serveExec(join(directory, EXEC_SOCKET), placeFinder(machine));

  const makeSo = async (mesh: typeof first.mesh) => {
    await setHosts(mesh.hosts);
    await machine.apply(mesh);
    speaker.tell(describeMesh(fileName, mesh, performance.now() - startedAt));
  };
  const follow = async (changed: string) => {
    try {
      const next = readMeshFile(changed, book);
      if (!next.ok) return speaker.tell(`${describeProblems(fileName, next.problems)}\nNothing was changed.`);
      await makeSo(next.mesh);
    } catch (error) {
      speaker.say("ambit", `cannot apply ${fileName}: ${(error as Error).message}`);
    }
  };
  try {
    await Promise.race([stopped, makeSo(first.mesh)]);
    const watch = config.meshFile === undefined ? undefined : await watchFile(config.meshFile, text, follow);
    await stopped;
    watch?.close();
  } finally {
    closeExec();
    await machine.stop();
  }
  return 0;
}

/** Loaded only when it is asked for. */
async function startNodeAgents(
  config: LocalConfig,
  directory: string,
  topology: Topology,
  changed: () => void,
  speaker: Speaker,
): Promise<NodeAgents> {
  const { NodeAgents } = await import("../local/node_agents.ts");
  const { createNetnsRunner } = await import("../cni/redirection/mod.ts");
  const log = createLog({
    filter: config.log.filter,
    format: config.log.format,
    nowMs: Date.now,
    sink: (line) => speaker.say("cni", line.trimEnd()),
  });
  return new NodeAgents({
    directory,
    netnsOf: (uid) => topology.podNetns(uid),
    redirection: createNftablesRedirection(createNetnsRunner()),
    dnsCapture: config.dnsCapture,
    workerEntry: new URL("./cni_worker.ts", import.meta.url),
    log,
    changed,
  });
}
