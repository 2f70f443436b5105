/**
 * Where the CNI plugin tells of a pod that is being made: `POST /cmdadd` on pluginevent.sock, reference cni.md 2.3. The answer
 * decides whether the pod's sandbox comes to be: 200 with nothing; 400 for a body that cannot be read; 500 with what went wrong.
 */
import { CNI_ADD_PATH, type CniAddEvent, decodeAddEvent } from "../plugin_event.ts";
import type { Logger } from "../../telemetry/log.ts";
import { messageOf } from "./errors.ts";
import type { Handler } from "./http_server.ts";

export interface PluginServerOptions {
  readonly enroll: (event: CniAddEvent, signal: AbortSignal) => Promise<void>;
  readonly log: Logger;
  readonly counted: (responseCode: number) => void;
}

/** Istio's plugin waits for 5 s: what takes longer nobody waits for. */
const LIMIT_MS = 5_000;
const SCOPE = "cni-agent";

export function pluginHandler({ enroll, log, counted }: PluginServerOptions): Handler {
  return async ({ path, body, signal }) => {
    if (path !== CNI_ADD_PATH) return { status: 404 };
    let event: CniAddEvent;
    try {
      event = decodeAddEvent(body);
    } catch (error) {
      counted(400);
      log.log("error", SCOPE, "failed to read a CNI event", { error: messageOf(error) });
      return { status: 400, body: messageOf(error) };
    }
    const pod = `${event.podNamespace}/${event.podName}`;
    log.log("debug", SCOPE, "the plugin announces a pod", { pod, netns: event.netns, ips: event.ips.join(",") });
    try {
      await enroll(event, AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]));
    } catch (error) {
      counted(500);
      log.log("error", SCOPE, "failed to handle a CNI add event", { pod, netns: event.netns, error: messageOf(error) });
      return { status: 500, body: messageOf(error) };
    }
    counted(200);
    return { status: 200 };
  };
}
