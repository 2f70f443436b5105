/** Entry point: argv and environment in, one role out. The same on Deno, on Bun and compiled. */
import { writeSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";
import { createHost } from "./src/cli/host.ts";
import { main } from "./src/cli/main.ts";

process.exit(
  await main({
    argv: process.argv.slice(2),
    env: process.env,
    programName: basename(process.argv0),
    host: createHost(),
    out: (text) => writeSync(1, text),
    err: (text) => writeSync(2, text),
  }),
);
