/** A program that replaces a pod's rules without end, by every means, until it is killed: `apply_forever.ts NETNS`. Says a line for each. */
import process from "node:process";
import { DEFAULT_REDIRECTION } from "../../../src/cni/redirection/redirection.ts";
import { BACKENDS, redirectionBy } from "./support.ts";

const netns = process.argv[2]!;
for (let round = 0;; round++) {
  const backend = BACKENDS[[0, 0, 1, 1, 2, 2, 0, 2, 1][round % 9]!]!;
  const virtualInterfaces = round % 2 === 0 ? ["tap0"] : [];
  await redirectionBy(backend).apply(netns, { ...DEFAULT_REDIRECTION, dnsCapture: true, virtualInterfaces });
  process.stdout.write(`${backend}\n`);
}
