/**
 * What becomes of a new pod: reference cni.md 2.2, steps 3 to 10, in that order. It reads the API server through what it
 * is given, and does nothing else.
 *
 * It fails closed: whoever cannot be judged is refused, and the runtime tries again.
 */
import { type JudgedPod, judgePod, parseSelectors } from "../eligibility.ts";
import type { Labels } from "../label_selector.ts";
import type { PluginConf } from "../net_conf.ts";
import type { PodArgs } from "./cni_args.ts";
import { CNI_ERROR, CniError } from "./cni_error.ts";
import type { PluginLog } from "./log.ts";
import { reasonWithoutSidecar, type SidecarPod } from "./sidecar.ts";

export type PodFacts = JudgedPod & SidecarPod;

/** The API server. */
export interface PodReader {
  pod(namespace: string, name: string): Promise<PodFacts>;
  namespaceLabels(name: string): Promise<Labels>;
  /** Lets go of its connections. */
  close(): void;
}

export interface DecideDeps {
  /** Rejects when there is no usable kubeconfig. */
  openReader(): Promise<PodReader>;
  sleep(ms: number): Promise<void>;
  nowMs(): number;
  readonly log: PluginLog;
}

export type Decision =
  /** Nothing to do. */
  | { readonly kind: "pass"; readonly reason: string }
  /** The pod belongs into the mesh: the agent redirects it. */
  | { readonly kind: "enrol"; readonly reason: string };

/** The agent's DaemonSet must have this name. */
const AGENT_POD_PREFIX = "istio-cni-node-";

const RETRY_MS = 1_000;
/** Istio's numbers: what it tries to find out whether a pod is ambient, then whether it has a sidecar. */
const DETECTION_ATTEMPTS = 2;
const DETECTION_ATTEMPTS_WITH_RETRY = 31;
const SIDECAR_ATTEMPTS = 30;
/** The runtime gives a sandbox 2 minutes; the error should still reach it. */
const GIVE_UP_MS = 100_000;

/** @throws Error, or CniError, when the pod must not start now */
export async function decide(conf: PluginConf, args: PodArgs, deps: DecideDeps): Promise<Decision> {
  const { podName, podNamespace } = args;
  if (isAgentPod(conf, args)) {
    // Without any other precondition: this pod is the one that would repair them.
    return pass(`${podName} looks like our own agent pod`);
  }
  // A node without a kubeconfig starts no pods: nobody could tell which of them belong into the mesh.
  const reader = await deps.openReader();
  if (podName === "" || podNamespace === "") return pass("not a Kubernetes pod");
  if (conf.excludedNamespaces.includes(podNamespace)) return pass(`pod namespace ${podNamespace} excluded`);
  checkNames(podName, podNamespace);

  // Selectors that nobody can read must not let everybody pass.
  const selectors = conf.ambientEnabled ? parseSelectors(conf.enablementSelectors) : [];
  const read = async (reader: PodReader) => {
    const pod = await reader.pod(podNamespace, podName);
    return { pod, labels: conf.ambientEnabled ? await reader.namespaceLabels(podNamespace) : {} };
  };
  const { pod, labels } = await withRetries(read, reader, conf, deps);
  if (conf.ambientEnabled) {
    const { eligible, reason } = judgePod(pod, labels, selectors);
    if (eligible) return { kind: "enrol", reason };
    deps.log.debug(`not ambient enabled: ${reason}`);
  }
  const reason = reasonWithoutSidecar(pod);
  if (reason !== undefined) return pass(`excluded because ${reason}`);
  throw new CniError(
    CNI_ERROR.unsupportedPod,
    `pod ${podNamespace}/${podName} has an Istio sidecar, and this istio-cni is ambit, which does not redirect traffic to ` +
      "sidecars: the pod is refused rather than started outside of the mesh",
    "Remove the sidecar (label sidecar.istio.io/inject=false, or a namespace in ambient mode), let the sidecar redirect " +
      "by its own istio-init container, or run Istio's own istio-cni on this node.",
  );
}

function isAgentPod(conf: PluginConf, { podName, podNamespace }: PodArgs): boolean {
  return podName.startsWith(AGENT_POD_PREFIX) && podNamespace === conf.podNamespace;
}

/** Whoever is asked for becomes part of a path. @throws Error */
function checkNames(podName: string, podNamespace: string): void {
  const name = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
  for (const text of [podName, podNamespace]) {
    if (!name.test(text)) throw new Error(`ARGS: ${JSON.stringify(text)} is no name of a pod or namespace`);
  }
}

/**
 * Where Istio's plugin gives up the question whether a pod is ambient and goes on as if it were not, this one goes on
 * asking: a pod that belongs into the mesh never starts without it, and none waits longer than there.
 */
async function withRetries<T>(
  read: (reader: PodReader) => Promise<T>,
  opened: PodReader,
  conf: PluginConf,
  deps: DecideDeps,
): Promise<T> {
  const attempts = attemptsOf(conf);
  const startMs = deps.nowMs();
  let reader: PodReader | undefined = opened;
  for (let attempt = 1;; attempt++) {
    try {
      // The agent may have renewed the token since.
      reader ??= await deps.openReader();
      return await read(reader);
    } catch (error) {
      reader?.close();
      reader = undefined;
      const why = `failed to get pod or namespace info: ${(error as Error).message}`;
      if (attempt >= attempts || deps.nowMs() - startMs + RETRY_MS > GIVE_UP_MS) {
        throw new Error(`${why} (attempt ${attempt}, the last one)`);
      }
      if (attempt === 1) deps.log.warn(`${why}; trying again for up to ${attempts - 1} s`);
      else deps.log.debug(why);
    }
    await deps.sleep(RETRY_MS);
  }
}

function attemptsOf({ ambientEnabled, detectionRetry }: PluginConf): number {
  if (!ambientEnabled) return SIDECAR_ATTEMPTS;
  return detectionRetry ? DETECTION_ATTEMPTS_WITH_RETRY : DETECTION_ATTEMPTS + SIDECAR_ATTEMPTS;
}

function pass(reason: string): Decision {
  return { kind: "pass", reason };
}
