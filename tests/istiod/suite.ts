/**
 * ambit ztunnel under a real istiod: all scenarios, one lab. Run by `deno task test:istiod`.
 *
 * AMBIT_ISTIOD_BUILDS=deno,bun limits the builds, AMBIT_ISTIOD_ONLY=text the scenarios, AMBIT_ISTIOD_KEEP=1 keeps the logs.
 */
import "./scenarios/paths.ts";
import "./scenarios/waypoints.ts";
import "./scenarios/sandwiches.ts";
import "./scenarios/policies.ts";
import "./scenarios/networks.ts";
import "./scenarios/lifecycle.ts";
import "./scenarios/probes.ts";
import "./scenarios/certificates.ts";
import "./scenarios/istioctl.ts";
import "./scenarios/pushes.ts";
import "./scenarios/contents.ts";
import "./scenarios/dedicated.ts";
import "./scenarios/direct.ts";
import "./scenarios/operator.ts";
// Leaves the mesh with another root.
import "./scenarios/roots.ts";
