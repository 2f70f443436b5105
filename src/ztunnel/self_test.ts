/** The start-up self-test of ztunnel: throw-away authorities and the data path's own judgement of names. */
import { createLocalCa } from "../control/local/ca.ts";
import { createKeyAndRequest } from "../identity/csr.ts";
import { runTlsSelfTest } from "../hbone/self_test.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import { admitClient, admitServer } from "./peer_identity.ts";

const CLIENT = "spiffe://self-test.invalid/ns/self-test/sa/client";
const SERVER = "spiffe://self-test.invalid/ns/self-test/sa/server";

/** Throws when this machine's TLS would let a wrong peer in. */
export async function proveAuthentication(): Promise<void> {
  const [own, other] = await Promise.all([createLocalCa(), createLocalCa()]);
  const issue = async (ca: typeof own, identity: string): Promise<TlsMaterial> => {
    const { privateKeyPem, csrPem } = await createKeyAndRequest(identity);
    const { chain, roots } = await ca.sign(identity, csrPem);
    return { privateKey: privateKeyPem, chain, roots };
  };
  const [client, server, foreign] = await Promise.all([
    issue(own, CLIENT),
    issue(own, SERVER),
    issue(other, CLIENT),
  ]);
  runTlsSelfTest({ client, server, foreign, clientIdentity: CLIENT, serverIdentity: SERVER }, {
    admitServer,
    admitClient: (uris, trustDomain) => {
      const outcome = admitClient(uris, trustDomain);
      return "refusal" in outcome ? outcome.refusal : undefined;
    },
  });
}
