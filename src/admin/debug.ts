/** The admin port's tools for looking into a running proxy: CPU profile, heap profile, and why a connection goes where it goes. */
import type { Context, Hono } from "hono";

/** Why a question cannot be answered as it was put; the text is the answer. */
export class BadRequest extends Error {}

export interface DebugControl {
  /**
   * Samples every thread.
   * @returns a gzip'd pprof profile.
   */
  profile?(seconds: number, frequencyHz: number): Promise<Uint8Array>;
  /**
   * What would become of a connection; as explain.ts gives it.
   * @throws BadRequest
   */
  explain?(question: { readonly from: string; readonly to: string }): unknown | Promise<unknown>;
}

const SECONDS = { min: 1, max: 300, fallback: 10 } as const;
const FREQUENCY = { min: 1, max: 1000, fallback: 100 } as const;

const NO_HEAP_PROFILE = "heap profiling is not enabled: this build has none; see the metrics of the process instead\n";

export function addDebugRoutes(app: Hono, control: DebugControl): void {
  let profiling = false;
  app.all("/debug/pprof/profile", async (c) => {
    if (control.profile === undefined) return c.text("CPU profiling is not enabled\n", 500);
    const seconds = wholeNumber(c, "seconds", SECONDS);
    const frequency = wholeNumber(c, "frequency", FREQUENCY);
    if (typeof seconds === "string") return c.text(seconds, 400);
    if (typeof frequency === "string") return c.text(frequency, 400);
    if (profiling) return c.text("a CPU profile is being taken: wait for its end\n", 409);
    profiling = true;
    try {
      const body = await control.profile(seconds, frequency);
      return c.body(new Uint8Array(body), 200, {
        "content-type": "application/octet-stream",
        "content-disposition": 'attachment; filename="profile.pb.gz"',
      });
    } finally {
      profiling = false;
    }
  });
  app.all("/debug/pprof/heap", (c) => c.text(NO_HEAP_PROFILE, 500));
  app.all("/debug/pprof/heap/profiling", (c) => c.text(NO_HEAP_PROFILE, 500));
  app.all("/debug/explain", async (c) => {
    if (control.explain === undefined) return c.text("there is nothing to explain\n", 500);
    try {
      const answer = await control.explain({ from: c.req.query("from") ?? "", to: c.req.query("to") ?? "" });
      return c.body(`${JSON.stringify(answer, null, 2)}\n`, 200, { "content-type": "application/json" });
    } catch (error) {
      if (error instanceof BadRequest) return c.text(`${error.message}\n`, 400);
      throw error;
    }
  });
}

/** The parameter, or what is wrong with it. */
function wholeNumber(
  c: Context,
  name: string,
  { min, max, fallback }: { readonly min: number; readonly max: number; readonly fallback: number },
): number | string {
  const text = c.req.query(name);
  if (text === undefined || text === "") return fallback;
  const value = /^[0-9]{1,6}$/.test(text) ? Number(text) : NaN;
  return value >= min && value <= max ? value : `${name} must be a whole number from ${min} to ${max}\n`;
}
