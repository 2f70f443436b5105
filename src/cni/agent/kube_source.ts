/** The pods of this node from the API server: informers for pods and namespaces, annotations as merge patches, Events. */
import type { KubeClient } from "../../control/kube/client.ts";
import { KubeError } from "../../control/kube/kube_error.ts";
import { type Informer, type InformerEvents, startInformer } from "../../control/kube/informer.ts";
import type { Namespace, Pod } from "../../control/kube/types.ts";
import type { Logger } from "../../telemetry/log.ts";
import { REDIRECTION_ANNOTATION } from "../eligibility.ts";
import { messageOf } from "./errors.ts";
import { PodGone, podKey, type PodSource, podUid } from "./pods.ts";

export interface KubeSourceOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  readonly log: Logger;
  readonly wallMs: () => number;
}

const SCOPE = "kube";
/** An API server that forbids Events is not asked again for so long. */
const FORBIDDEN_PAUSE_MS = 10 * 60_000;
/** The API's limit is 1,024. */
const MAX_EVENT_CHARS = 1_000;

export function createKubeSource({ client, nodeName, log, wallMs }: KubeSourceOptions): PodSource {
  let pods: Informer<Pod> | undefined;
  let namespaces: Informer<Namespace> | undefined;
  let eventsForbiddenUntilMs = -Infinity;
  const problem = (text: string) => log.log("warn", SCOPE, text);

  return {
    async start(events) {
      const podEvents: InformerEvents<Pod> = {
        added: (pod) => events.podAdded(pod),
        updated: (before, after) => events.podUpdated(before, after),
        deleted: (last) => events.podDeleted(last),
        synced: () => {},
        problem,
      };
      const namespaceEvents: InformerEvents<Namespace> = {
        added: (namespace) => events.namespaceAdded(namespace),
        updated: (before, after) => events.namespaceUpdated(before, after),
        deleted: () => {},
        synced: () => {},
        problem,
      };
      namespaces = startInformer<Namespace>(client, "/api/v1/namespaces", {}, namespaceEvents);
      pods = startInformer<Pod>(client, "/api/v1/pods", { fieldSelector: `spec.nodeName=${nodeName}` }, podEvents);
      await Promise.all([pods.synced, namespaces.synced]);
    },
    pod: (namespace, name) => pods?.get(`${namespace}/${name}`),
    pods: () => pods?.list() ?? [],
    namespace: (name) => namespaces?.get(name),
    fetchPod: (namespace, name, signal) => fetched(client.get<Pod>(podPath(namespace, name), signal)),
    fetchNamespace: (name, signal) =>
      fetched(client.get<Namespace>(`/api/v1/namespaces/${encodeURIComponent(name)}`, signal)),
    async annotate(pod, state) {
      const { namespace = "", name = "" } = pod.metadata;
      // With the uid: a patch must not meet another pod of that name.
      const metadata = { uid: podUid(pod), annotations: { [REDIRECTION_ANNOTATION]: state } };
      try {
        await client.mergePatch(`${podPath(namespace, name)}/status`, { metadata });
      } catch (error) {
        if (
          error instanceof KubeError &&
          (error.status === 404 || ([409, 422].includes(error.status) && /uid/i.test(error.message)))
        ) {
          throw new PodGone(`pod ${podKey(pod)} is gone: ${error.message}`, { cause: error });
        }
        throw error;
      }
    },
    async event(pod, { type, reason, message }) {
      if (wallMs() < eventsForbiddenUntilMs) return;
      const { namespace = "", name = "", uid, resourceVersion } = pod.metadata;
      const now = new Date(wallMs()).toISOString().replace(/\.[0-9]+Z$/, "Z");
      try {
        await client.create(`/api/v1/namespaces/${encodeURIComponent(namespace)}/events`, {
          apiVersion: "v1",
          kind: "Event",
          metadata: { generateName: `${name.slice(0, 200)}.`, namespace },
          involvedObject: { apiVersion: "v1", kind: "Pod", namespace, name, uid, resourceVersion },
          type,
          reason,
          message: message.length > MAX_EVENT_CHARS ? `${message.slice(0, MAX_EVENT_CHARS - 1)}…` : message,
          source: { component: "istio-cni", host: nodeName },
          reportingComponent: "istio-cni",
          reportingInstance: nodeName,
          firstTimestamp: now,
          lastTimestamp: now,
          count: 1,
        });
      } catch (error) {
        const forbidden = error instanceof KubeError && error.status === 403;
        if (forbidden) eventsForbiddenUntilMs = wallMs() + FORBIDDEN_PAUSE_MS;
        log.log(forbidden ? "info" : "warn", SCOPE, "cannot create an Event", {
          pod: podKey(pod),
          reason,
          error: messageOf(error),
        });
      }
    },
    stop() {
      pods?.stop();
      namespaces?.stop();
    },
  };
}

function podPath(namespace: string, name: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
}

async function fetched<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof KubeError && error.status === 404) return undefined;
    throw error;
  }
}
