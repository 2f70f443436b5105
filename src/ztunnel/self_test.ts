/** The start-up self-test of ztunnel: throw-away certificates and the data path's own judgement of names. */
import { runTlsSelfTest } from "../hbone/self_test.ts";
import { createCertificate, PrivateKey } from "../platform/certificates.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import { admitClient, admitServer } from "./peer_identity.ts";

const CLIENT = "spiffe://self-test.invalid/ns/self-test/sa/client";
const SERVER = "spiffe://self-test.invalid/ns/self-test/sa/server";
const LIFE_SECONDS = 3600;

/** Throws when this machine's TLS would let a wrong peer in. */
export function proveAuthentication(): void {
  const own = new PrivateKey();
  const other = new PrivateKey();
  try {
    const issue = (root: PrivateKey, uri: string, serialNumber: number): TlsMaterial => {
      const key = new PrivateKey();
      try {
        return {
          privateKey: key.toPem(),
          chain: [createCertificate(key, { uri, serialNumber, lifeSeconds: LIFE_SECONDS }, root)],
          roots: [createCertificate(root, { uri: undefined, serialNumber: 1, lifeSeconds: LIFE_SECONDS })],
        };
      } finally {
        key.free();
      }
    };
    const material = {
      client: issue(own, CLIENT, 2),
      server: issue(own, SERVER, 3),
      foreign: issue(other, CLIENT, 4),
      clientIdentity: CLIENT,
      serverIdentity: SERVER,
    };
    runTlsSelfTest(material, {
      admitServer,
      admitClient: (uris, trustDomain) => {
        const outcome = admitClient(uris, trustDomain);
        return "refusal" in outcome ? outcome.refusal : undefined;
      },
    });
  } finally {
    own.free();
    other.free();
  }
}
