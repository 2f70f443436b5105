/** `ambit local` as the waypoint's source of configuration and of its certificate. */
import { connectWaypointControl, type WaypointControl as Channel } from "../../control/local/waypoint_client.ts";
import type { ControlOptions, WaypointControl } from "./control.ts";

const ignore = () => {};

/** `path`: of the socket that its parent made for it. */
export function openLocal({ config, log }: ControlOptions, path: string): WaypointControl {
  // What is asked for before there is anybody to ask waits.
  const { promise: channel, resolve: setChannel } = Promise.withResolvers<Channel>();
  return {
    requestCertificate: async (identity, csrPem) => await (await channel).requestCertificate(identity, csrPem),
    follow({ agent, waiting }) {
      waiting(`waiting for ambit local at ${path}`);
      setChannel(connectWaypointControl({
        path,
        name: `${config.podNamespace}/${config.podName}`,
        // Versions are told back to istiod; here the parent knows what it has said.
        apply: (push) => agent.sink.apply(push, ignore),
        onDisconnect(reason) {
          waiting(reason);
          log.log("warn", "local", "the local control plane is gone; what it said stays in force", { reason });
        },
      }));
    },
    // Everything comes unasked.
    watch: ignore,
    ready: () => void channel.then((open) => open.ready()),
    close: () => void channel.then((open) => open.close()),
  };
}
