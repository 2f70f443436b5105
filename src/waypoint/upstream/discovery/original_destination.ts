/** Requests go where their client wanted to go (ORIGINAL_DST, and `encap` of workload waypoints): straight, or by a tunnel to that address. */
import type { DiscoverySpec } from "../../spec/mod.ts";
import type { Host } from "../host.ts";
import type { PickRequest } from "../upstream.ts";
import { AddressHosts } from "./address_hosts.ts";
import type { Discovery, DiscoveryHome } from "./discovery.ts";
import { withPort } from "./dns.ts";

type OriginalSpec = Extract<DiscoverySpec, { readonly kind: "original destination" }>;

/** Addresses at once: they come from clients. */
const MAX_HOSTS = 16_384;

export class OriginalDestination implements Discovery {
  readonly #spec: OriginalSpec;
  readonly #hosts: AddressHosts;

  constructor(home: DiscoveryHome, spec: OriginalSpec) {
    this.#spec = spec;
    this.#hosts = new AddressHosts(home, MAX_HOSTS);
  }

  start(): void {}

  stop(): void {
    this.#hosts.stop();
  }

  hosts(): Iterable<Host> {
    return this.#hosts.all();
  }

  choose({ connection }: PickRequest): Host | undefined {
    const { ip } = connection.destination;
    if (ip === "") return undefined;
    const port = this.#spec.port ?? connection.destination.port;
    const id = withPort(ip, port);
    return this.#hosts.get(
      id,
      "",
      () =>
        this.#spec.hbone
          ? { kind: "hbone", target: id, via: undefined }
          : { kind: "direct", host: ip, port, others: [] },
    );
  }
}
