/**
 * Pushes of istiod on their way to the workers: out of the envelope, compiled (config/), held back until what they need is here (live_config.ts), in
 * force everywhere, and only then acknowledged. What is asked for by name follows from what came.
 */
import { openResource } from "../../control/xds/resource.ts";
import type { Rejection, XdsPush, XdsSink } from "../../control/xds/push.ts";
import { createYield } from "../../platform/yield_turn.ts";
import { type NamedResource, TYPES, type WaypointIntake } from "../config/mod.ts";
import type { Change, LiveConfig } from "./live_config.ts";
import type { StateRecorder } from "./state.ts";

const PREFIX = "type.googleapis.com/";

/** Full urls of what a waypoint asks for, in the order in which istiod sends it (waypoint.md 2.1). */
export const TYPE_URLS = {
  clusters: PREFIX + TYPES.clusters,
  endpoints: PREFIX + TYPES.endpoints,
  listeners: PREFIX + TYPES.listeners,
  filters: PREFIX + TYPES.filters,
  secrets: PREFIX + TYPES.secrets,
  workloads: PREFIX + TYPES.workloads,
} as const;

/** Credentials that istiod hands out; all others are this process's own. */
const FROM_ISTIOD = "kubernetes://";

export interface WaypointSinkOptions {
  readonly intake: WaypointIntake;
  readonly live: LiveConfig;
  readonly recorder: StateRecorder;
  /** Resolves when every worker has it in force. */
  readonly deliver: (change: Change) => Promise<void>;
  /** The names of a type that are wanted from now on. */
  readonly watch: (typeUrl: string, names: ReadonlySet<string>) => void;
  /** Secrets that are not istiod's: `default`, `ROOTCA`, files. */
  readonly wantLocal: (names: ReadonlySet<string>) => void;
  /** Something came; readiness is looked at again. */
  readonly progress: (arrived: { readonly type: string; readonly missingFilters: number }) => void;
}

/** As long as a probe, a name that is looked up or a token that is judged may wait for a large push. */
const SLICE_MS = 1.5;
const yieldTurn = createYield(1);

async function inSlices<T>(steps: Generator<void, T>): Promise<T> {
  let beganMs = performance.now();
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    if (performance.now() - beganMs < SLICE_MS) continue;
    await yieldTurn();
    beganMs = performance.now();
  }
}

export function createWaypointSink(options: WaypointSinkOptions): XdsSink {
  const { intake, live, recorder, deliver } = options;
  const filters = new Set<string>();
  let endpoints: ReadonlySet<string> = new Set();

  function wantedChanged(): Change {
    const wanted = intake.wanted;
    const remote = new Set<string>(), local = new Set<string>();
    for (const name of wanted.secrets) (name.startsWith(FROM_ISTIOD) ? remote : local).add(name);
    options.watch(TYPE_URLS.endpoints, wanted.endpoints);
    options.watch(TYPE_URLS.filters, wanted.filters);
    options.watch(TYPE_URLS.secrets, remote);
    options.wantLocal(local);
    // istiod does not tell of the end of what is not asked for any more.
    const gone = [...endpoints].filter((name) => !wanted.endpoints.has(name));
    endpoints = wanted.endpoints;
    for (const name of filters) if (!wanted.filters.has(name)) filters.delete(name);
    for (const name of gone) recorder.removed(TYPE_URLS.endpoints, name);
    if (gone.length === 0) return {};
    return intake.apply({ type: TYPES.endpoints, resources: [], removed: gone }).update ?? {};
  }

  async function apply(
    { typeUrl, resources, removed }: XdsPush,
    accepted: (name: string, version: string) => void,
  ): Promise<readonly Rejection[]> {
    const rejections: Rejection[] = [];
    const opened: (NamedResource & { readonly version: string })[] = [];
    for (const bytes of resources) {
      try {
        opened.push(openResource(bytes));
      } catch (error) {
        rejections.push({ name: "?", reason: (error as Error).message });
      }
    }
    const type = typeUrl.slice(PREFIX.length);
    let change: Change = {};
    try {
      const result = await inSlices(intake.steps({ type, resources: opened, removed }));
      change = result.update ?? {};
      rejections.push(...result.rejections);
    } catch (error) {
      // A bug of ours must not end the stream: everything of the push is refused, and what was in force stays.
      for (const { name } of opened) rejections.push({ name, reason: `internal error: ${(error as Error).message}` });
    }
    note(typeUrl, opened, removed, rejections);
    for (const { name, version } of opened) accepted(name, version);
    if (type === TYPES.filters) {
      for (const name of [...opened.map((each) => each.name), ...removed]) {
        filters.add(name);
      }
    }
    if (type === TYPES.clusters || type === TYPES.listeners) change = { ...change, ...wantedChanged() };
    const now = live.admit(change);
    if (now !== undefined) await deliver(now);
    const missingFilters = [...intake.wanted.filters].filter((name) => !filters.has(name)).length;
    options.progress({ type, missingFilters });
    return rejections;
  }

  function note(
    typeUrl: string,
    opened: readonly (NamedResource & { readonly version: string })[],
    removed: readonly string[],
    rejections: readonly Rejection[],
  ): void {
    const reasons = new Map<string, string>();
    for (const { name, reason } of rejections) {
      const before = reasons.get(name);
      reasons.set(name, before === undefined ? reason : `${before}; ${reason}`);
    }
    for (const { name, version, resource } of opened) {
      // A copy: the message it came in may be large, and is not to stay for one small resource.
      const value = resource.value.slice();
      recorder.received(typeUrl, { name, version, typeUrl: resource.typeUrl, value, error: reasons.get(name) });
    }
    for (const name of removed) recorder.removed(typeUrl, name);
    recorder.applied(typeUrl, [...reasons].map(([name, reason]) => `${name}: ${reason}`).join("; "));
  }

  return { apply };
}
