/**
 * The client's side of delta xDS as a state machine (xDS protocol, "Incremental xDS"; reference ztunnel, section 3.4). Sans-io.
 *
 * It knows what is subscribed to, what the server believes we hold, and what must be said next; it opens no stream and waits for
 * nothing. One stream at a time: `open` begins it and forgets the stream before it, but not what is known.
 */
import type { Rejection } from "./push.ts";

/**
 * `wildcard`: everything of the type. `on-demand`: nothing until it is asked for by name. `named`: what `watch` names, and nothing else; as
 * long as that is nothing, the type is not asked for at all.
 */
export interface Subscription {
  readonly typeUrl: string;
  readonly mode: "wildcard" | "on-demand" | "named";
}

/** Who asks: node id and metadata as in reference 3.2. */
export interface NodeInfo {
  readonly id: string;
  /** Undefined: none. */
  readonly cluster?: string;
  /** Undefined: not known. */
  readonly locality?: { readonly region: string; readonly zone: string; readonly subZone: string } | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** A DeltaDiscoveryRequest. */
export interface DeltaRequest {
  readonly typeUrl: string;
  /** On the first request of each type of a stream only. */
  readonly node?: NodeInfo;
  readonly subscribe?: readonly string[];
  readonly unsubscribe?: readonly string[];
  readonly initialVersions?: ReadonlyMap<string, string>;
  /** Of the response that this acknowledges; undefined when it is no answer. */
  readonly nonce?: string;
  /** Set: a NACK, and why. */
  readonly error?: string;
}

/** What must be known of a response before it is applied. */
export interface DeltaResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly removed: readonly string[];
}

const WILDCARD = "*";
/** An error travels in each direction and into istiod's log: beyond this the rest is counted. */
const MAX_ERROR_CHARS = 16 * 1024;

interface TypeState {
  readonly typeUrl: string;
  readonly mode: Subscription["mode"];
  /** What the server shall believe we hold, by name. "" makes it send the resource again. */
  readonly versions: Map<string, string>;
  /** On demand: names that were asked for and are waited for. What has come is known by its own name. Named: all that are watched. */
  readonly wanted: Set<string>;
  /** Named: this stream knows of the type. */
  begun: boolean;
  /** A response of this type was acknowledged as a whole. */
  synced: boolean;
}

export class DeltaProtocol {
  readonly #nodeNow: () => NodeInfo;
  #node: NodeInfo;
  readonly #types = new Map<string, TypeState>();

  /** `node`: asked again for each stream when it is a function. */
  constructor(subscriptions: readonly Subscription[], node: NodeInfo | (() => NodeInfo)) {
    this.#nodeNow = typeof node === "function" ? node : () => node;
    this.#node = this.#nodeNow();
    for (const { typeUrl, mode } of subscriptions) {
      this.#types.set(typeUrl, { typeUrl, mode, versions: new Map(), wanted: new Set(), begun: false, synced: false });
    }
  }

  /** A stream was opened: what to say first, in this order. */
  open(): DeltaRequest[] {
    this.#node = this.#nodeNow();
    return [...this.#types.values()].flatMap((type): DeltaRequest[] => {
      if (type.mode !== "named") return [this.#begin(type)];
      type.begun = type.wanted.size > 0;
      return type.begun ? [this.#begin(type)] : [];
    });
  }

  #begin({ typeUrl, mode, versions, wanted }: TypeState): DeltaRequest {
    const node = this.#node;
    switch (mode) {
      case "wildcard":
        return { typeUrl, node, initialVersions: new Map(versions) };
      case "named":
        return { typeUrl, node, subscribe: [...wanted], initialVersions: new Map(versions) };
      case "on-demand":
        return this.#beginOnDemand(typeUrl, versions, wanted);
    }
  }

  #beginOnDemand(typeUrl: string, versions: ReadonlyMap<string, string>, wanted: ReadonlySet<string>): DeltaRequest {
    const initialVersions = new Map<string, string>();
    for (const name of wanted) initialVersions.set(name, "");
    for (const [name, version] of versions) initialVersions.set(name, version);
    // Subscribing to everything and not, at once, is how istiod is told that nothing is meant but what is named.
    return {
      typeUrl,
      node: this.#node,
      subscribe: [WILDCARD, ...initialVersions.keys()],
      unsubscribe: [WILDCARD],
      initialVersions,
    };
  }

  /** Whether responses of this type are wanted. Others are acknowledged and dropped. */
  knows(typeUrl: string): boolean {
    return this.#types.has(typeUrl);
  }

  /** A resource is in force; the server will be told this version after a reconnect. */
  accepted(typeUrl: string, name: string, version: string): void {
    const type = this.#types.get(typeUrl);
    // What came although it is not watched any more is not held.
    if (type?.mode === "named" && !type.wanted.has(name)) return;
    type?.versions.set(name, version);
  }

  /** A response is in force but for what was rejected. What to answer. */
  applied(response: DeltaResponse, rejections: readonly Rejection[]): DeltaRequest {
    const { typeUrl, nonce } = response;
    const type = this.#types.get(typeUrl);
    if (type === undefined) return { typeUrl, nonce };
    for (const { name } of rejections) {
      // An older version may still be in force. With its version the server would not send it again when it returns to that,
      // and without its name it would not tell of its end.
      if (type.versions.has(name)) type.versions.set(name, "");
    }
    for (const name of response.removed) type.versions.delete(name);
    if (rejections.length > 0) return { typeUrl, nonce, error: rejectionText(rejections) };
    type.synced = true;
    return { typeUrl, nonce };
  }

  /**
   * Asks for a name of an on-demand type. What to say, also when it was said before: the server answers again. Until `settled` it is
   * asked for on each new stream.
   */
  demand(typeUrl: string, name: string): DeltaRequest {
    const type = this.#types.get(typeUrl);
    if (type?.mode !== "on-demand") throw new Error(`${typeUrl} is not subscribed to on demand`);
    type.wanted.add(name);
    return { typeUrl, subscribe: [name] };
  }

  /** Makes the names of a named type exactly these. What to say, if there is a stream; undefined when that is nothing new. */
  watch(typeUrl: string, names: ReadonlySet<string>, streaming = true): DeltaRequest | undefined {
    const type = this.#types.get(typeUrl);
    if (type?.mode !== "named") throw new Error(`${typeUrl} is not subscribed to by name`);
    const subscribe = [...names].filter((name) => !type.wanted.has(name));
    const unsubscribe = [...type.wanted].filter((name) => !names.has(name));
    for (const name of subscribe) type.wanted.add(name);
    for (const name of unsubscribe) {
      type.wanted.delete(name);
      type.versions.delete(name);
    }
    // Without a stream all of it goes out when the next one begins.
    if (!streaming || (subscribe.length === 0 && unsubscribe.length === 0)) return undefined;
    if (type.begun) return { typeUrl, subscribe, unsubscribe };
    type.begun = true;
    return this.#begin(type);
  }

  /** Nobody waits for the name any more. */
  settled(typeUrl: string, name: string): void {
    this.#types.get(typeUrl)?.wanted.delete(name);
  }

  /** Wildcard types of which no response was acknowledged yet. Empty: what the server has is in force. */
  get unsynced(): readonly string[] {
    return [...this.#types.values()].filter(({ mode, synced }) => mode === "wildcard" && !synced).map((t) => t.typeUrl);
  }

  /** Types of which at least one resource is held, with how many. */
  get known(): ReadonlyMap<string, number> {
    return new Map([...this.#types.values()].map(({ typeUrl, versions }) => [typeUrl, versions.size]));
  }
}

/** `name: reason; name: reason`, as istiod's log shows it. */
function rejectionText(rejections: readonly Rejection[]): string {
  let text = "";
  for (let i = 0; i < rejections.length; i++) {
    const { name, reason } = rejections[i];
    const next = `${text === "" ? "" : "; "}${name}: ${reason}`;
    if (text.length + next.length > MAX_ERROR_CHARS) {
      const rest = rejections.length - i;
      return text === "" ? `${next.slice(0, MAX_ERROR_CHARS)}…` : `${text}; and ${rest} more`;
    }
    text += next;
  }
  return text;
}
