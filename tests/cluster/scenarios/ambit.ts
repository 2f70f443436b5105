/** ambit in all three roles. */
import { enrolmentScenarios } from "./enrolment.ts";
import { lifecycleScenarios, removalScenario } from "./lifecycle.ts";
import { meshScenarios } from "./mesh.ts";
import { nodeScenarios } from "./node.ts";
import { waypointScenarios } from "./waypoint.ts";

const SETUP = "ambit";

meshScenarios(SETUP);
enrolmentScenarios(SETUP);
nodeScenarios(SETUP);
waypointScenarios(SETUP);
lifecycleScenarios(SETUP);
removalScenario(SETUP);
