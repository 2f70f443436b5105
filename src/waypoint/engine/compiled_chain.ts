/** An HTTP chain made ready once, when its configuration comes. */
import type { HttpChainSpec } from "../spec/mod.ts";
import { CompiledRoutes } from "../router/compiled_routes.ts";
import type { HttpFilter } from "./request_context.ts";
import type { EngineServices } from "./services.ts";

export interface CompiledHttpChain {
  readonly spec: HttpChainSpec;
  readonly filters: readonly HttpFilter[];
  readonly routes: CompiledRoutes;
  readonly upgrades: ReadonlySet<string>;
}

/** Makes the filters of a chain. @throws Error for one that cannot be made: the chain is refused then */
export type FilterFactory = (spec: HttpChainSpec) => readonly HttpFilter[];

/** @throws Error */
export function compileHttpChain(
  spec: HttpChainSpec,
  services: EngineServices,
  makeFilters: FilterFactory,
): CompiledHttpChain {
  return {
    spec,
    filters: makeFilters(spec),
    routes: new CompiledRoutes(spec.routes, services.formats, () => services.random()),
    upgrades: new Set(spec.options.upgrades),
  };
}
