/** How a step of a pod's enrolment failed: whether trying again may help, and which step it was. */

export type Step = "namespace" | "rules" | "ztunnel" | "host" | "annotation" | "state";

export class EnrolmentError extends Error {
  override readonly name = "EnrolmentError";
  readonly step: Step;
  /** False: the same would fail again; only something new (another sandbox, another event) helps. */
  readonly retryable: boolean;

  constructor(step: Step, retryable: boolean, message: string, cause?: unknown) {
    super(message, { cause });
    this.step = step;
    this.retryable = retryable;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
