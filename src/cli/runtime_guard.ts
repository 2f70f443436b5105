/**
 * Variables by which the runtime itself can be opened from outside. docs/security.md says what each does.
 * They act before any code of ours: this keeps a mistake from going unnoticed, it is no defence.
 */
import { UsageError } from "./errors.ts";
import type { Environment } from "./options.ts";

/** Make Bun listen for a debugger, which may run anything. */
const REFUSED = ["BUN_INSPECT", "BUN_INSPECT_CONNECT_TO", "BUN_INSPECT_NOTIFY"];
/** May carry any flag of Bun, a preloaded script included. */
const NOTED = ["BUN_OPTIONS"];

/**
 * Notes for the operator about the environment.
 * @throws UsageError when a debugger would be open.
 */
export function checkRuntimeEnvironment(env: Environment): string[] {
  const set = (name: string) => (env[name] ?? "") !== "";
  for (const name of REFUSED) {
    if (set(name)) throw new UsageError(`environment variable ${name} opens a debugger in this process: unset it`);
  }
  return NOTED.filter(set).map((name) =>
    `environment variable ${name} is set and changes the runtime: see docs/security.md`
  );
}
