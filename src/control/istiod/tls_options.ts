/** Which TLS the connections to istiod speak: what the configuration says of the mesh's own (reference ztunnel, section 5.9). */
import type { ConnectionOptions } from "node:tls";
import { runtime } from "../../platform/runtime.ts";
import type { IstiodEndpoint } from "./endpoint.ts";
import { IstiodError } from "./errors.ts";

const HYBRID_GROUP = "X25519MLKEM768";

/**
 * The suites of TLS 1.3 are the runtime's: neither Deno nor Bun lets them be chosen, so ChaCha20-Poly1305 is offered too.
 *
 * @throws IstiodError of kind `local` when what is asked for cannot be kept: Deno takes the name of a key exchange and ignores it.
 */
export function tlsOptions(
  { tls12Enabled, pqc }: Pick<IstiodEndpoint, "tls12Enabled" | "pqc">,
): Pick<ConnectionOptions, "minVersion" | "ecdhCurve"> {
  if (!pqc) return { minVersion: tls12Enabled ? "TLSv1.2" : "TLSv1.3" };
  if (runtime.name === "deno") {
    throw new IstiodError(
      "local",
      "COMPLIANCE_POLICY=pqc cannot be kept for the connections to istiod on Deno, which offers no choice of the key " +
        "exchange: use the build by Bun",
    );
  }
  return { minVersion: "TLSv1.3", ecdhCurve: HYBRID_GROUP };
}
