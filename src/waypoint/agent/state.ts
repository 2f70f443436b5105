/**
 * What the admin server shows of a waypoint: resources as they were received, by type, and where everything stands. Kept on the main thread; nothing
 * on the data path reads it.
 */
import type { WaypointConfig } from "../../cli/config.ts";
import type { WorkerReport } from "../worker/messages.ts";
import type { WaypointNode } from "./node.ts";

export interface ReceivedResource {
  readonly name: string;
  readonly version: string;
  /** Of the Any in which it came. */
  readonly typeUrl: string;
  readonly value: Uint8Array;
  /** Milliseconds since 1970. */
  readonly updatedMs: number;
  /** Why it, or a part of it, is not in force; undefined: it is as a whole. */
  readonly error: string | undefined;
}

export interface TypeStatus {
  /** Responses taken in as a whole, and those of which something was refused. */
  accepted: number;
  rejected: number;
  lastUpdateMs: number;
  /** Of the last response that was refused. */
  lastError: string;
}

/** The own certificate and other secrets, without private keys. */
export interface SecretView {
  readonly name: string;
  readonly kind: "certificate" | "trust";
  /** PEM. */
  readonly certificates: string;
  readonly updatedMs: number;
}

export interface WaypointState {
  readonly config: WaypointConfig;
  readonly node: WaypointNode;
  readonly startedMs: number;
  /** From the start until it was ready; undefined before. */
  readonly startupMs: number | undefined;
  /** By full type url, then by name. */
  readonly resources: ReadonlyMap<string, ReadonlyMap<string, ReceivedResource>>;
  readonly types: ReadonlyMap<string, TypeStatus>;
  readonly secrets: ReadonlyMap<string, SecretView>;
  /** As Envoy's `server.state`. */
  readonly phase: "initializing" | "live" | "draining";
  /** "" when ready. */
  readonly notReady: string;
  /** Asks all workers. One that is silent is left out. */
  report(): Promise<readonly WorkerReport[]>;
  readonly workers: number;
}

/** The side that fills it. */
export class StateRecorder {
  readonly #resources = new Map<string, Map<string, ReceivedResource>>();
  readonly #types = new Map<string, TypeStatus>();
  readonly #secrets = new Map<string, SecretView>();
  readonly #wallMs: () => number;

  constructor(wallMs: () => number) {
    this.#wallMs = wallMs;
  }

  get resources(): ReadonlyMap<string, ReadonlyMap<string, ReceivedResource>> {
    return this.#resources;
  }

  get types(): ReadonlyMap<string, TypeStatus> {
    return this.#types;
  }

  get secrets(): ReadonlyMap<string, SecretView> {
    return this.#secrets;
  }

  /** `value` is kept: no view into a message. */
  received(typeUrl: string, resource: Omit<ReceivedResource, "updatedMs">): void {
    let byName = this.#resources.get(typeUrl);
    if (byName === undefined) this.#resources.set(typeUrl, byName = new Map());
    byName.set(resource.name, { ...resource, updatedMs: this.#wallMs() });
  }

  removed(typeUrl: string, name: string): void {
    this.#resources.get(typeUrl)?.delete(name);
  }

  applied(typeUrl: string, error: string): void {
    let status = this.#types.get(typeUrl);
    if (status === undefined) {
      status = { accepted: 0, rejected: 0, lastUpdateMs: 0, lastError: "" };
      this.#types.set(typeUrl, status);
    }
    status.lastUpdateMs = this.#wallMs();
    if (error === "") status.accepted++;
    else {
      status.rejected++;
      status.lastError = error;
    }
  }

  secret(name: string, kind: SecretView["kind"], certificates: string): void {
    this.#secrets.set(name, { name, kind, certificates, updatedMs: this.#wallMs() });
  }

  secretRemoved(name: string): void {
    this.#secrets.delete(name);
  }
}
