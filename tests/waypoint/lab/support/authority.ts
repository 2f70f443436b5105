/** The authority of a build's stage (apps/authority.ts) behind a ztunnel, made by the first scenario that asks. */
import type { Build } from "../../../istiod/support/builds.ts";
import { AUTHORITY_PORTS } from "../apps/protocol.ts";
import { AppProcess } from "./app_process.ts";
import { AUTHORITY } from "./plane.ts";
import type { Scene } from "./scenario.ts";
import { LabService } from "./services.ts";
import { Issuer } from "./tokens.ts";

/** Its keys are the authority's to hand out. */
export const fetched = new Issuer("https://fetched.example.com");

const made = new Map<Build, Promise<LabService>>();

export function authorityOf(scene: Scene): Promise<LabService> {
  let service = made.get(scene.build);
  if (service === undefined) made.set(scene.build, service = make(scene));
  return service;
}

async function make(scene: Scene): Promise<LabService> {
  const { lab, b } = scene;
  const { namespace } = await scene.stage();
  const [pod] = await lab.addPods({ name: AUTHORITY, namespace, node: b });
  await AppProcess.start(pod!, { program: "authority.ts", args: [fetched.keySet] });
  const { http, keys, grpc, dead } = AUTHORITY_PORTS;
  return await LabService.create(lab, {
    name: AUTHORITY,
    namespace,
    ports: [
      { name: "http", port: http, target: http },
      { name: "http-keys", port: keys, target: keys },
      { name: "grpc", port: grpc, target: grpc },
      { name: "http-dead", port: dead, target: dead },
    ],
    pods: [pod!],
  });
}
