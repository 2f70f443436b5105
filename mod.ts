/** Entry point: argv and environment in, one role out. The same on Deno, on Bun and compiled. */
import { basename } from "node:path";
import process from "node:process";
import { isPluginCall } from "./src/cli/plugin_call.ts";
import { roleModules } from "./src/cli/role_modules.ts";

const argv = process.argv.slice(2);
const programName = basename(process.argv0);

// Everything else is loaded when it is wanted: the CNI plugin runs for every pod and is over in milliseconds.
if (isPluginCall({ argv, programName, cniCommand: process.env["CNI_COMMAND"] })) {
  const { runCniPlugin } = await roleModules.cniPlugin();
  process.exit(await runCniPlugin());
} else {
  const [{ writeSync }, { createHost }, { main }] = await Promise.all([
    import("node:fs"),
    import("./src/cli/host.ts"),
    import("./src/cli/main.ts"),
  ]);
  process.exit(
    await main({
      argv,
      env: process.env,
      programName,
      host: createHost(),
      out: (text) => writeSync(1, text),
      err: (text) => writeSync(2, text),
    }),
  );
}
