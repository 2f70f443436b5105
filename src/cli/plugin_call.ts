/**
 * Whether the program was started as the CNI plugin. Asked before anything else is loaded, so it imports nothing: a
 * node starts a plugin several times for every pod.
 */

/** As it is on the node, in the container runtime's directory of plugins. */
const PLUGIN_NAME = "istio-cni";

export interface ProgramCall {
  readonly argv: readonly string[];
  /** The name the program was started by, without directory. */
  readonly programName: string;
  /** `CNI_COMMAND` of the environment: a container runtime runs its plugins with it and without arguments. */
  readonly cniCommand: string | undefined;
}

export function isPluginCall({ argv, programName, cniCommand }: ProgramCall): boolean {
  return programName === PLUGIN_NAME || (argv.length === 0 && cniCommand !== undefined && cniCommand !== "");
}
