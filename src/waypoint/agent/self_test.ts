/** The start-up self-test of a waypoint: throw-away certificates, and the data path's own judgement of names. */
import { proveAuthentication } from "../../hbone/self_test.ts";
import { compileText } from "../match/text.ts";
import { admitClient, refuseEndpoint } from "../transport/tunnel_names.ts";

/** Throws when this machine's TLS would let a wrong peer in. */
export function proveTunnels(): void {
  proveAuthentication({
    admitServer: (uris, expected) =>
      refuseEndpoint(uris, expected.map((text) => compileText({ kind: "exact", text, ignoreCase: false }))),
    admitClient: (uris, trustDomain) => {
      const tests = [compileText({ kind: "prefix", text: `spiffe://${trustDomain}/`, ignoreCase: false })];
      const outcome = admitClient(uris, tests);
      return "refusal" in outcome ? outcome.refusal : undefined;
    },
  });
}
