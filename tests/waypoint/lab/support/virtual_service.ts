/** VirtualServices of many routes, each at a path of its own, so that all lie on one service. */
import process from "node:process";
import type { HttpAnswer } from "../apps/protocol.ts";
import { istioObject } from "./objects.ts";
import { check, expectRows, type Row, type Wanted } from "./rows.ts";
import type { Scene } from "./scenario.ts";
import type { LabService } from "./services.ts";
import type { AppPod } from "./stage.ts";

export type Parts = Readonly<Record<string, unknown>>;

export interface Ask {
  /** Below the route's own path. */
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** `send` asks for something below the route's path. */
export type Send = (ask?: Ask) => Promise<HttpAnswer>;
export type Look = (send: Send, base: string) => Promise<void>;

export interface Route {
  readonly name: string;
  /** Of `spec.http`, without the match by path. */
  readonly route: Parts;
  /** Besides the path. */
  readonly match?: Parts;
  readonly look: Look;
}

export interface Places {
  readonly service: LabService;
  readonly alpha: LabService;
  readonly beta: LabService;
  readonly betaPod: AppPod;
}

/** None is the beginning of another. */
const pathOf = (i: number) => `/v${String(i).padStart(3, "0")}`;

let keys = 0;
/** A number that no request used before. */
export const fresh = () => `${process.pid}-${++keys}`;
/** One request and its answer. */
export const gives = (ask: Ask, wanted: Wanted): Look => async (send) => check(await send(ask), wanted);
export const all = (...looks: readonly Look[]): Look => async (send, base) => {
  for (const look of looks) await look(send, base);
};
export const to = (service: LabService, more: Parts = {}): Parts => ({
  destination: { host: service.hostname, port: { number: 80 } },
  ...more,
});

/** Lays the routes on a service of alpha, and looks at each. */
export async function expectRoutes(
  scene: Scene,
  name: string,
  make: (places: Places) => readonly Route[],
): Promise<void> {
  const { client, alpha, beta } = await scene.stage();
  const service = await scene.addService(name, { pods: [alpha] });
  const routes = make({
    service,
    alpha: await scene.addService(`${name}-a`, { pods: [alpha] }),
    beta: await scene.addService(`${name}-b`, { pods: [beta] }),
    betaPod: beta,
  });
  const rows = routes.map(({ name, look }, i): Row => {
    const base = pathOf(i);
    const send: Send = ({ path = "", ...more } = {}) =>
      client.app.http(service.url("http", base + path), { timeoutMs: 10_000, ...more });
    return { name, check: () => look(send, base) };
  });
  const http = routes.map(({ route, match = {} }, i) => ({
    match: [{ uri: { prefix: pathOf(i) }, ...match }],
    ...route,
  }));
  const spec = { hosts: [service.hostname], http: [...http, { route: [to(service)] }] };
  await scene.apply(istioObject("VirtualService", service.namespace, service.name, spec));
  await expectRows(rows, 60_000);
}
