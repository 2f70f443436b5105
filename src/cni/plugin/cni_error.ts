/** An error in the form in which a container runtime takes it: CNI specification, section "Error". */

/** Below 100 the specification's own; above, ours; 999 is what CNI's Go library gives whatever is no CNI error. */
export const CNI_ERROR = {
  incompatibleVersion: 1,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodingFailure: 6,
  invalidConfig: 7,
  invalidNetns: 8,
  /** The pod needs what this plugin does not do. */
  unsupportedPod: 100,
  internal: 999,
} as const;

export class CniError extends Error {
  override readonly name = "CniError";

  constructor(readonly code: number, message: string, readonly details = "") {
    super(message);
  }

  static from(thrown: unknown): CniError {
    if (thrown instanceof CniError) return thrown;
    return new CniError(CNI_ERROR.internal, thrown instanceof Error ? thrown.message : String(thrown));
  }
}

/** The JSON for stdout. */
export function formatError(error: CniError, cniVersion: string): string {
  const { code, message: msg, details } = error;
  return JSON.stringify(details === "" ? { cniVersion, code, msg } : { cniVersion, code, msg, details }, null, 4) +
    "\n";
}
