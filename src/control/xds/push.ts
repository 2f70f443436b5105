/**
 * What the xDS client hands to whoever applies it: one push of one resource type, decoded no further than its outer
 * fields, so that the receiver can decode a large push in slices of its own choosing.
 */

/**
 * One DeltaDiscoveryResponse. The byte arrays are views into the received message: who keeps bytes copies them.
 */
export interface XdsPush {
  readonly typeUrl: string;
  /** Each an encoded `envoy.service.discovery.v3.Resource`. */
  readonly resources: readonly Uint8Array[];
  /** Names of resources that no longer exist. */
  readonly removed: readonly string[];
}

/** A resource that was refused, and why; the server is told in a NACK that names it. */
export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

/** A resource that is in force; `version` is as the server sent it, and is told back on a reconnect. */
export interface Accepted {
  readonly name: string;
  readonly version: string;
}

/** The receiver of pushes. */
export interface XdsSink {
  /**
   * Applies a push; resolves when it is in force in every worker. Never rejects for bad resources: these come back as
   * rejections. Calls `accepted` for every resource it put in force, before it resolves.
   */
  apply(push: XdsPush, accepted: (name: string, version: string) => void): Promise<readonly Rejection[]>;
}
