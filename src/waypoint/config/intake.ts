/**
 * From what istiod sends to updates for the workers. Each resource is compiled once, when it comes; what did not change is neither compiled again
 * nor sent on, so that an update of one service leaves the connections of all others alone.
 *
 * What cannot be honoured fails closed for its chain alone and is named in the answer to istiod. The resource around it is in force all the same.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { createHash } from "node:crypto";
import { ClusterSchema } from "../../gen/envoy/config/cluster/v3/cluster_pb.ts";
import { TypedExtensionConfigSchema } from "../../gen/envoy/config/core/v3/extension_pb.ts";
import { ClusterLoadAssignmentSchema } from "../../gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../../gen/envoy/config/listener/v3/listener_pb.ts";
import { type Secret, SecretSchema } from "../../gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import { type Workload, WorkloadSchema } from "../../gen/istio/workload/workload_pb.ts";
import type {
  ChainName,
  ChainSpec,
  ClusterName,
  ClusterSpec,
  ConfigUpdate,
  EndpointsSpec,
  SecretSpec,
  SelectionSpec,
  TerminateSpec,
  TransportSpec,
} from "../spec/mod.ts";
import { accessLogs, type Warn } from "./access_log.ts";
import { clusterSpec } from "./clusters.ts";
import { endpointsSpec } from "./endpoints.ts";
import { typeOf, Unsupported, within } from "./guard.ts";
import { chainSpec, expectPlumbing, splitListener, terminate } from "./listeners.ts";
import { inlineText } from "./routes.ts";
import { selectionSteps } from "./selection.ts";
import { workloadSpec } from "./workloads.ts";

/** Type names of what a waypoint subscribes to, without `type.googleapis.com/`. */
export const TYPES = {
  clusters: ClusterSchema.typeName,
  endpoints: ClusterLoadAssignmentSchema.typeName,
  listeners: ListenerSchema.typeName,
  filters: TypedExtensionConfigSchema.typeName,
  secrets: SecretSchema.typeName,
  workloads: WorkloadSchema.typeName,
} as const;

export interface NamedResource {
  readonly name: string;
  readonly resource: Any;
}

/** One response of one type. */
export interface ResourcePush {
  readonly type: string;
  readonly resources: readonly NamedResource[];
  readonly removed: readonly string[];
}

export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

export interface IntakeResult {
  /** Undefined when nothing changed for a worker. */
  readonly update: Mutable<Omit<ConfigUpdate, "epoch">> | undefined;
  readonly rejections: readonly Rejection[];
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Update = Mutable<Omit<ConfigUpdate, "epoch">>;

interface KnownChain {
  readonly digest: string;
  /** Of the compiled chain: istiod sends maps in any order. */
  readonly meaning: string;
  readonly spec: ChainSpec;
  /** Names of its filters that come by ECDS. */
  readonly discovered: ReadonlySet<string>;
  readonly bytes: Uint8Array | undefined;
}

const MAIN = "main_internal";
const TERMINATE = "connect_terminate";
const ORIGINATE = new Set([
  "connect_originate",
  "inner_connect_originate",
  "outer_connect_originate",
  "forward_inner_connect",
]);

export class WaypointIntake {
  readonly #warn: Warn;
  readonly #chains = new Map<ChainName, KnownChain>();
  readonly #clusters = new Map<string, { readonly meaning: string; readonly spec: ClusterSpec | undefined }>();
  readonly #endpoints = new Map<string, string>();
  readonly #filters = new Map<string, Any>();
  readonly #refusedTunnels = new Map<string, string>();
  #terminate: TerminateSpec | undefined;
  #sentTerminate = "";
  #selection = "";

  constructor(warn: Warn) {
    this.#warn = warn;
  }

  /** Names to subscribe to, as the clusters and chains in force want them. */
  get wanted(): { readonly endpoints: Set<string>; readonly filters: Set<string>; readonly secrets: Set<string> } {
    const endpoints = new Set<string>(), filters = new Set<string>(), secrets = new Set<string>();
    for (const { spec } of this.#clusters.values()) {
      if (spec === undefined) continue;
      if (spec.discovery.kind === "eds") endpoints.add(spec.discovery.name);
      for (const transport of [spec.transport, ...spec.transportByTag.map(({ transport }) => transport)]) {
        addSecrets(transport, secrets);
      }
    }
    for (const { discovered } of this.#chains.values()) for (const name of discovered) filters.add(name);
    return { endpoints, filters, secrets };
  }

  /** All at once. */
  apply(push: ResourcePush): IntakeResult {
    const steps = this.steps(push);
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value;
    }
  }

  /** The same, to be interrupted between any two resources or chains. One push after the other. */
  *steps(push: ResourcePush): Generator<void, IntakeResult> {
    const update: Update = {};
    const rejections: Rejection[] = [];
    const each = function* (take: (resource: NamedResource) => Iterable<void> | undefined | void): Iterable<void> {
      for (const resource of push.resources) {
        try {
          const inner = take(resource);
          if (inner !== undefined) yield* inner;
        } catch (error) {
          rejections.push({ name: resource.name, reason: (error as Error).message });
        }
        yield;
      }
    };
    switch (push.type) {
      case TYPES.listeners:
        yield* each(({ name, resource }) => this.#listener(name, resource, update, rejections));
        for (const name of push.removed) this.#removeListener(name, update);
        break;
      case TYPES.clusters:
        yield* each((resource) => this.#cluster(resource, update));
        for (const name of push.removed) this.#removeCluster(name, update);
        break;
      case TYPES.endpoints:
        yield* each(({ name, resource }) => this.#load(name, resource, update));
        for (const name of push.removed) this.#removeLoad(name, update);
        break;
      case TYPES.filters:
        yield* each(({ name, resource }) => this.#filter(name, resource, update, rejections));
        for (const name of push.removed) this.#removeFilter(name, update, rejections);
        break;
      case TYPES.secrets:
        yield* each(({ name, resource }) => {
          update.secrets = { ...update.secrets, [name]: secretSpec(resource) };
        });
        for (const name of push.removed) update.secrets = { ...update.secrets, [name]: null };
        break;
      case TYPES.workloads:
        update.workloads = push.resources.map(({ resource }) =>
          workloadSpec(fromBinary(WorkloadSchema, resource.value) as Workload)
        );
        update.removedWorkloads = push.removed;
        break;
      default:
        throw new Error(`waypoint intake: nobody asked for ${push.type}`);
    }
    return { update: Object.keys(update).length === 0 ? undefined : update, rejections };
  }

  // ---- listeners

  *#listener(name: string, resource: Any, update: Update, rejections: Rejection[]): Iterable<void> {
    if (typeOf(resource) !== ListenerSchema.typeName) throw new Unsupported(`${typeOf(resource)} is no listener`);
    const { listener, chains } = splitListener(resource.value);
    if (name === MAIN) {
      const chosen: SelectionSpec = yield* selectionSteps(listener.filterChainMatcher);
      const text = JSON.stringify(chosen);
      yield* this.#mainChains(chains, update, rejections);
      if (text !== this.#selection) update.selection = chosen;
      this.#selection = text;
    } else if (name === TERMINATE) {
      // A logger for what matches nothing stands on the listener itself.
      const own = accessLogs(listener.accessLog, this.#warn);
      const spec = terminate(chains, this.#warn);
      this.#terminate = { ...spec, accessLogs: [...spec.accessLogs, ...own] };
      if (spec.refusal !== undefined) rejections.push({ name, reason: spec.refusal });
      this.#sendTerminate(update);
    } else if (ORIGINATE.has(name)) {
      this.#refusedTunnels.delete(name);
      try {
        expectPlumbing(chains);
      } catch (error) {
        this.#refusedTunnels.set(name, `${name}: ${(error as Error).message}`);
        throw error;
      } finally {
        this.#sendTerminate(update);
      }
    } else {
      throw new Unsupported(`the listener ${name} is not one of a waypoint`);
    }
  }

  #sendTerminate(update: Update): void {
    if (this.#terminate === undefined) return;
    const [refused] = this.#refusedTunnels.values();
    const spec = { ...this.#terminate, refusal: this.#terminate.refusal ?? refused };
    const text = JSON.stringify(spec);
    if (text === this.#sentTerminate) return;
    this.#sentTerminate = text;
    update.terminate = spec;
  }

  *#mainChains(
    chains: readonly { readonly name: ChainName; readonly bytes: Uint8Array }[],
    update: Update,
    rejections: Rejection[],
  ): Iterable<void> {
    const gone = new Set(this.#chains.keys());
    for (const { name, bytes } of chains) {
      gone.delete(name);
      const digest = createHash("sha256").update(bytes).digest("base64");
      const known = this.#chains.get(name);
      if (known?.digest !== digest) this.#compileChain(name, digest, bytes, update);
      const { spec, discovered } = this.#chains.get(name) as KnownChain;
      // A chain whose filters are still on their way is closed, but no fault of istiod's.
      const isWaiting = [...discovered].some((filter) => !this.#filters.has(filter));
      if (spec.kind === "refused" && !isWaiting) {
        rejections.push({ name: MAIN, reason: `filter chain ${name}: ${spec.reason}` });
      }
      yield;
    }
    for (const name of gone) this.#chains.delete(name);
    if (gone.size > 0) update.removedChains = [...update.removedChains ?? [], ...gone];
  }

  #compileChain(name: ChainName, digest: string, bytes: Uint8Array, update: Update): void {
    const discovered = new Set<string>();
    const find = (filter: string): Any | undefined => {
      discovered.add(filter);
      return this.#filters.get(filter);
    };
    const spec = within(
      `filter chain ${name}`,
      () => chainSpec(bytes, find, (text) => this.#warn(`chain ${name}: ${text}`)),
    );
    const meaning = createHash("sha256").update(JSON.stringify(spec)).digest("base64");
    const before = this.#chains.get(name);
    // Only a chain that waits for filters is compiled again without having changed itself.
    this.#chains.set(name, {
      digest,
      meaning,
      spec,
      discovered,
      bytes: discovered.size > 0 ? bytes.slice() : undefined,
    });
    if (before?.meaning !== meaning) update.chains = more(update.chains, spec);
  }

  #removeListener(name: string, update: Update): void {
    if (name !== MAIN) return;
    update.removedChains = [...this.#chains.keys()];
    this.#chains.clear();
    update.selection = { authorities: {}, ranges: [] };
    this.#selection = JSON.stringify(update.selection);
  }

  // ---- filters that come apart from their chains

  #filter(name: string, resource: Any, update: Update, rejections: Rejection[]): void {
    const { typedConfig } = fromBinary(TypedExtensionConfigSchema, resource.value);
    if (typedConfig === undefined) throw new Unsupported("a filter without a configuration");
    this.#filters.set(name, typedConfig);
    this.#recompile(name, update, rejections);
  }

  #removeFilter(name: string, update: Update, rejections: Rejection[]): void {
    this.#filters.delete(name);
    this.#recompile(name, update, rejections);
  }

  #recompile(filter: string, update: Update, rejections: Rejection[]): void {
    for (const [name, { discovered, digest, bytes }] of [...this.#chains]) {
      if (!discovered.has(filter) || bytes === undefined) continue;
      this.#compileChain(name, digest, bytes, update);
      const { spec } = this.#chains.get(name) as KnownChain;
      if (spec.kind === "refused") rejections.push({ name: filter, reason: `filter chain ${name}: ${spec.reason}` });
    }
  }

  // ---- clusters and endpoints

  #cluster({ name, resource }: NamedResource, update: Update): void {
    let spec: ClusterSpec | undefined;
    try {
      spec = clusterSpec(fromBinary(ClusterSchema, resource.value));
    } catch (error) {
      // Neither what it was nor what it became: requests to it are answered 503.
      this.#removeCluster(name, update);
      throw error;
    }
    const meaning = spec === undefined
      ? ""
      : createHash("sha256").update(JSON.stringify(spec, limitless)).digest("base64");
    const before = this.#clusters.get(name);
    this.#clusters.set(name, { meaning, spec });
    if (spec !== undefined && before?.meaning !== meaning) update.clusters = more(update.clusters, spec);
  }

  #removeCluster(name: string, update: Update): void {
    const known = this.#clusters.get(name);
    this.#clusters.delete(name);
    if (known?.spec !== undefined) update.removedClusters = [...update.removedClusters ?? [], name as ClusterName];
  }

  #load(name: string, resource: Any, update: Update): void {
    const spec: EndpointsSpec = endpointsSpec(fromBinary(ClusterLoadAssignmentSchema, resource.value));
    const digest = createHash("sha256").update(JSON.stringify(spec)).digest("base64");
    if (this.#endpoints.get(name) === digest) return;
    this.#endpoints.set(name, digest);
    update.endpoints = more(update.endpoints, spec);
  }

  #removeLoad(name: string, update: Update): void {
    if (this.#endpoints.delete(name)) update.removedEndpoints = [...update.removedEndpoints ?? [], name];
  }
}

/** The list of an update belongs to it alone: it grows in place. */
function more<T>(list: readonly T[] | undefined, item: T): readonly T[] {
  if (list === undefined) return [item];
  (list as T[]).push(item);
  return list;
}

/** JSON has no word for it. */
function limitless(_key: string, value: unknown): unknown {
  return value === Infinity ? "Infinity" : value;
}

function addSecrets(transport: TransportSpec, secrets: Set<string>): void {
  if (transport.kind === "proxy protocol") return addSecrets(transport.inner, secrets);
  if (transport.kind !== "tls") return;
  for (const name of [transport.tls.trust, transport.tls.certificate]) if (name !== undefined) secrets.add(name);
}

/** @throws Unsupported */
function secretSpec(resource: Any): SecretSpec {
  const { type }: Secret = fromBinary(SecretSchema, resource.value);
  switch (type.case) {
    case "tlsCertificate":
      return {
        kind: "certificate",
        chain: inlineText(type.value.certificateChain),
        key: inlineText(type.value.privateKey),
      };
    case "validationContext":
      return { kind: "trust", roots: inlineText(type.value.trustedCa), crl: inlineText(type.value.crl) || undefined };
    default:
      throw new Unsupported(`a secret of type ${type.case ?? "nothing"} is not supported`);
  }
}
