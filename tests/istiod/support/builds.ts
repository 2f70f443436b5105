/** The three ways ambit is shipped, each a node of one mesh. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { ROOT, tool } from "../../../scripts/support/tools.ts";

export type Build = "deno" | "bun" | "compiled";
const ALL: readonly Build[] = ["deno", "bun", "compiled"];

/** All of them, or those that the variable names, comma-separated. */
export function buildsUnderTest(variable = "AMBIT_ISTIOD_BUILDS"): readonly Build[] {
  const named = process.env[variable];
  return named === undefined || named === "" ? ALL : ALL.filter((build) => named.split(",").includes(build));
}

/** The program (for the compiled one AMBIT_BINARY or dist/ambit) and the arguments before ambit's own. */
export function ambitOf(build: Build): readonly string[] {
  const entry = join(ROOT, "mod.ts");
  switch (build) {
    case "deno":
      return [tool("deno"), "run", "--quiet", "--no-prompt", "--no-check", "-A", entry];
    case "bun":
      return [tool("bun"), entry];
    case "compiled": {
      const binary = process.env.AMBIT_BINARY || join(ROOT, "dist/ambit");
      if (!existsSync(binary)) throw new Error(`there is no ${binary}: run \`deno task build\` first`);
      return [binary];
    }
  }
}
