/** Envoy's resources, as istiod sends them to a waypoint, to the engine's own configuration. The only place that knows Envoy's messages. */
export {
  type IntakeResult,
  type NamedResource,
  type Rejection,
  type ResourcePush,
  TYPES,
  WaypointIntake,
} from "./intake.ts";
export { Unsupported } from "./guard.ts";
