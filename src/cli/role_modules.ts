/**
 * The roles' modules, each loaded when it is chosen.
 *
 * Deno reads every module that it can see in a literal specifier before it runs the first line, however late its import comes: 800 modules
 * for `ambit version`. It does not look through a type assertion; Bun's bundler, which has to know them all, does.
 */
export const roleModules = {
  cni: () => import("../roles/cni.ts" as string) as Promise<typeof import("../roles/cni.ts")>,
  cniPlugin: () => import("../roles/cni_plugin.ts" as string) as Promise<typeof import("../roles/cni_plugin.ts")>,
  cniStatus: () => import("../roles/cni_status.ts" as string) as Promise<typeof import("../roles/cni_status.ts")>,
  echo: () => import("../roles/echo.ts" as string) as Promise<typeof import("../roles/echo.ts")>,
  explain: () => import("../roles/explain.ts" as string) as Promise<typeof import("../roles/explain.ts")>,
  local: () => import("../roles/local.ts" as string) as Promise<typeof import("../roles/local.ts")>,
  localExec: () => import("../roles/local_exec.ts" as string) as Promise<typeof import("../roles/local_exec.ts")>,
  version: () => import("../roles/version.ts" as string) as Promise<typeof import("../roles/version.ts")>,
  waypoint: () => import("../roles/waypoint.ts" as string) as Promise<typeof import("../roles/waypoint.ts")>,
  ztunnel: () => import("../roles/ztunnel.ts" as string) as Promise<typeof import("../roles/ztunnel.ts")>,
};
