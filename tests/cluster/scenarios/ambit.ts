/** ambit as node agent and as ztunnel. */
import { enrolmentScenarios } from "./enrolment.ts";
import { lifecycleScenarios, removalScenario } from "./lifecycle.ts";
import { meshScenarios } from "./mesh.ts";
import { nodeScenarios } from "./node.ts";

const SETUP = "ambit";

meshScenarios(SETUP);
enrolmentScenarios(SETUP);
nodeScenarios(SETUP);
lifecycleScenarios(SETUP);
removalScenario(SETUP);
