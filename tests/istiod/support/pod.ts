/** A pod of the lab: an object in the API server and a network namespace, whose applications are sockets of the test process. */
import { isIpv6 } from "../../../src/mesh/ip.ts";
import { NetworkError } from "../../e2e/support/errors.ts";
import type { Server } from "../../e2e/support/lab.ts";
import type { Peer, PeerEnd } from "../../e2e/support/peer.ts";
import type { Traffic } from "../../e2e/support/metrics.ts";
import type { ZtunnelProcess } from "../../e2e/support/ztunnel_process.ts";
import type { IstiodLab } from "./lab.ts";
import { type PodFacts, podObject } from "./objects.ts";

/** What a proxy shows of itself. */
export interface ProxyView {
  readonly ztunnel: ZtunnelProcess;
  traffic(labels: Readonly<Record<string, string>>): Promise<Traffic>;
}

export class LabPod {
  readonly mesh: IstiodLab;
  readonly facts: PodFacts;
  /** As the API server gave it. */
  readonly uid: string;
  readonly namespaceFd: number;
  /** A ztunnel of its own, instead of its node's. */
  dedicated: ProxyView | undefined;

  constructor(mesh: IstiodLab, facts: PodFacts, uid: string, namespaceFd: number) {
    this.mesh = mesh;
    this.facts = facts;
    this.uid = uid;
    this.namespaceFd = namespaceFd;
  }

  get name(): string {
    return this.facts.name;
  }

  get namespace(): string {
    return this.facts.namespace;
  }

  get serviceAccount(): string {
    return this.facts.serviceAccount;
  }

  get identity(): string {
    return `spiffe://cluster.local/ns/${this.namespace}/sa/${this.serviceAccount}`;
  }

  /** What istiod calls it. */
  get workloadUid(): string {
    return `Kubernetes//Pod/${this.namespace}/${this.name}`;
  }

  /** For the API server. */
  get object() {
    return podObject(this.facts);
  }

  ip(family: "ipv4" | "ipv6" = "ipv4"): string {
    const address = this.facts.addresses.find((address) => isIpv6(address) === (family === "ipv6"));
    if (address === undefined) throw new Error(`${this.name} has no ${family} address`);
    return address;
  }

  /** Opens a connection as an application of this pod would. */
  connect(ip: string, port: number): Promise<Peer> {
    return this.mesh.lab.connect(this.namespaceFd, ip, port);
  }

  /** How a refused connection looks to the application: the errno, at once or when it reads. "eof" when it was closed in order. */
  async refusal(ip: string, port: number, timeoutMs?: number): Promise<PeerEnd> {
    let peer: Peer;
    try {
      peer = await this.connect(ip, port);
    } catch (error) {
      if (error instanceof NetworkError) return error.code;
      throw error;
    }
    const end = await peer.ended(timeoutMs);
    peer.close();
    return end;
  }

  listen(port: number, accepted: (peer: Peer) => void): Server {
    return this.mesh.lab.listen(this.namespaceFd, port, accepted);
  }
}
