/** A waypoint's configuration from a mesh file. */
export { checkAttachments } from "./check_attachments.ts";
export { compileWaypoint } from "./compile.ts";
export type { CompiledResource, CompiledWaypoint, WaypointWorld } from "./world.ts";
