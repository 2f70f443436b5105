/** Who an address belongs to, for logs and metrics (istio.workload.Workload). Nothing is decided by it. */
import { canonicalIp } from "../../mesh/ip.ts";
import type { WorkloadSpec } from "../spec/mod.ts";

export class Peers {
  readonly #byUid = new Map<string, WorkloadSpec>();
  readonly #byAddress = new Map<string, WorkloadSpec>();

  /** Removals come first: an address may move from one workload to another within an update. */
  apply(workloads: readonly WorkloadSpec[], removed: readonly string[]): void {
    for (const uid of removed) this.#remove(uid);
    for (const workload of workloads) {
      this.#remove(workload.uid);
      this.#byUid.set(workload.uid, workload);
      for (const address of workload.addresses) this.#byAddress.set(canonicalIp(address) ?? address, workload);
    }
  }

  find(ip: string): WorkloadSpec | undefined {
    return this.#byAddress.get(ip);
  }

  #remove(uid: string): void {
    const known = this.#byUid.get(uid);
    if (known === undefined) return;
    this.#byUid.delete(uid);
    for (const address of known.addresses) {
      const key = canonicalIp(address) ?? address;
      if (this.#byAddress.get(key)?.uid === uid) this.#byAddress.delete(key);
    }
  }
}
