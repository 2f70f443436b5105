/** The start-up self-test of ztunnel: throw-away certificates and the data path's own judgement of names. */
import { proveAuthentication as prove } from "../hbone/self_test.ts";
import { admitClient, admitServer } from "./peer_identity.ts";

/** Throws when this machine's TLS would let a wrong peer in. */
export function proveAuthentication(): void {
  prove({
    admitServer,
    admitClient: (uris, trustDomain) => {
      const outcome = admitClient(uris, trustDomain);
      return "refusal" in outcome ? outcome.refusal : undefined;
    },
  });
}
