/** Where a waypoint has its configuration and its certificate from: istiod, or the `ambit local` that started it. */
import type { WaypointConfig } from "../../cli/config.ts";
import type { XdsSink } from "../../control/xds/push.ts";
import type { Authority } from "../../identity/certificate_store.ts";
import type { Limits } from "../../telemetry/limits.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Registry } from "../../telemetry/registry.ts";
import type { WaypointNode } from "./node.ts";

export interface ControlOptions {
  readonly config: WaypointConfig;
  readonly registry: Registry;
  readonly log: Logger;
  readonly limits: Pick<Limits, "reached">;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

export interface Follower {
  readonly agent: {
    /** Asked again for each stream. */
    readonly currentNode: () => WaypointNode;
    readonly sink: XdsSink;
  };
  /** Why nothing has come yet. */
  readonly waiting: (reason: string) => void;
}

export interface WaypointControl extends Authority {
  /** Begins to connect, and keeps at it. */
  follow(follower: Follower): void;
  /** The names of a type that are wanted from now on. */
  watch(typeUrl: string, names: ReadonlySet<string>): void;
  /** The waypoint serves. */
  ready(): void;
  close(): void;
}

/** Loads one of the two and nothing of the other. @throws Error when the TLS that the configuration asks for cannot be had */
export async function openControl(options: ControlOptions): Promise<WaypointControl> {
  const { localControl } = options.config;
  if (localControl === undefined) return (await import("./istiod_control.ts")).openIstiod(options);
  return (await import("./local_control.ts")).openLocal(options, localControl);
}
