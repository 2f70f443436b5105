/**
 * ADD: reference cni.md 2.2 and 2.3. The pod's addresses come from the plugins before this one, the decision from
 * decide.ts; whatever becomes of the pod, the result is what the others made of it.
 */
import { CNI_ADD_PATH, encodeAddEvent } from "../plugin_event.ts";
import { EVENT_SOCKET_NAME, parsePluginConf, type PluginConf } from "../net_conf.ts";
import { EVENT_TIMEOUT_MS, postToAgent } from "./agent_socket.ts";
import { parseCniArgs } from "./cni_args.ts";
import { decide, type DecideDeps } from "./decide.ts";
import type { PluginLogger } from "./log.ts";
import type { AddInput } from "./protocol.ts";
import type { CniRequest } from "./request.ts";
import { type CniResult, formatResult, parseResult } from "./result.ts";

export interface AddDeps extends Omit<DecideDeps, "openReader"> {
  openReader(conf: PluginConf): ReturnType<DecideDeps["openReader"]>;
  readonly log: PluginLogger;
}

/** @throws Error or CniError when the pod must not start */
export async function add(request: CniRequest, { text, version }: AddInput, deps: AddDeps): Promise<string> {
  const conf = parsePluginConf(text);
  deps.log.configure(conf.logLevel, conf.agentRunDir);
  const prevResult = conf.prevResult && parseResult(conf.prevResult, version);
  // What cannot be printed in the end must not be begun.
  const output = formatResult(prevResult, version);
  const pod = parseArgs(request.args);
  if (pod.podName !== "") deps.log.setPod(pod.podNamespace, pod.podName);
  const decision = await decide(conf, pod, { ...deps, openReader: () => deps.openReader(conf) });
  if (decision.kind === "pass") {
    deps.log.info(`nothing to do: ${decision.reason}`);
    return output;
  }
  deps.log.debug(`ambient enabled: ${decision.reason}`);
  await enrol(conf, request.netns, pod, prevResult);
  deps.log.info("added to the mesh");
  return output;
}

function parseArgs(args: string): ReturnType<typeof parseCniArgs> {
  try {
    return parseCniArgs(args);
  } catch (error) {
    throw new Error(`failed to load args: ${(error as Error).message}`);
  }
}

async function enrol(
  conf: PluginConf,
  netns: string,
  { podName, podNamespace }: { readonly podName: string; readonly podNamespace: string },
  prevResult: CniResult | undefined,
): Promise<void> {
  const event = encodeAddEvent({ netns, podName, podNamespace }, prevResult?.ips);
  try {
    const socketPath = `${conf.agentRunDir}/${EVENT_SOCKET_NAME}`;
    const { status, body } = await postToAgent(socketPath, CNI_ADD_PATH, event, EVENT_TIMEOUT_MS);
    if (status !== 200) throw new Error(`unable to push CNI event (status code ${status}): ${body}`);
  } catch (error) {
    throw new Error(`istio-cni cmdAdd failed to contact node Istio CNI agent: ${(error as Error).message}`);
  }
}
