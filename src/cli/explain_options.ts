/** `ambit explain`'s flags. */
import type { ExplainConfig } from "./config.ts";
import { UsageError } from "./errors.ts";
import { type RoleHelp } from "./help.ts";
import { boolean, custom, type ParsedArguments, resolveOptions, text } from "./options.ts";
import { parseSocketAddress } from "./values.ts";

/** Where ztunnel's admin port is unless ProxyConfig moves it. */
const ADMIN_ADDRESS = "127.0.0.1:15000";

export const explainOptions = {
  from: text(
    { flag: "from", metavar: "NAMESPACE/SERVICEACCOUNT" },
    "",
    "The client: a service account, a pod (NAMESPACE/POD) or a pod's IP address. Required.",
  ),
  to: text(
    { flag: "to", metavar: "IP:PORT" },
    "",
    "The destination as the client would connect to it: an address, or a service's host name, and a port. Required.",
  ),
  address: custom(
    { flag: "address", metavar: "HOST:PORT" },
    ADMIN_ADDRESS,
    ADMIN_ADDRESS,
    "Admin port of the ztunnel that is asked.",
    parseSocketAddress,
  ),
  json: boolean({ flag: "json" }, false, "Print the answer as JSON."),
};

export const EXPLAIN_HELP: RoleHelp = {
  usage: "ambit explain --from=NAMESPACE/SERVICEACCOUNT --to=IP:PORT [flags]",
  summary: "Asks the ztunnel that runs here which way a connection would go, and what every policy says to it. " +
    "Exit code 0: allowed; 1: denied, by all or some of the possible ends; 2: wrong usage, or no answer.",
  table: explainOptions,
};

/** @throws UsageError */
export function buildExplainConfig(parsed: ParsedArguments): ExplainConfig {
  const { from, to, address, json } = resolveOptions(explainOptions, parsed, {});
  if (parsed.positionals.length > 0) {
    throw new UsageError(`unexpected argument ${JSON.stringify(parsed.positionals[0])}: explain takes only flags`);
  }
  if (from === "") throw new UsageError("explain needs --from=NAMESPACE/SERVICEACCOUNT");
  if (to === "") throw new UsageError("explain needs --to=IP:PORT");
  return Object.freeze({ from, to, address, json });
}
