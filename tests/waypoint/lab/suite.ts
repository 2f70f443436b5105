/**
 * ambit waypoint under a real istiod: all scenarios, one lab. Run by `deno task test:waypoint`.
 *
 * AMBIT_WAYPOINT_BUILDS=deno,bun limits the builds, AMBIT_WAYPOINT_ONLY=text the scenarios, AMBIT_WAYPOINT_KEEP=1 keeps the logs.
 */
import "./scenarios/pod.ts";
import "./scenarios/paths.ts";
import "./scenarios/egress.ts";
import "./scenarios/protocols.ts";
import "./scenarios/tcp.ts";
import "./scenarios/conformance_matches.ts";
import "./scenarios/conformance_redirects.ts";
import "./scenarios/conformance_headers.ts";
import "./scenarios/conformance_frontends.ts";
import "./scenarios/routing_virtual_services.ts";
import "./scenarios/routing_virtual_matches.ts";
import "./scenarios/routing_destination_rules.ts";
import "./scenarios/routing_routes.ts";
import "./scenarios/routing_localities.ts";
import "./scenarios/policies_http.ts";
import "./scenarios/policies_tcp.ts";
import "./scenarios/policies_tokens.ts";
import "./scenarios/policies_custom.ts";
import "./scenarios/policies_targets.ts";
import "./scenarios/faults.ts";
import "./scenarios/absences.ts";
import "./scenarios/changes.ts";
import "./scenarios/telemetry.ts";
import "./scenarios/istioctl.ts";
