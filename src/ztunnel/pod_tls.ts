/**
 * The TLS contexts of a pod: its certificate, the policy of the process, the revocation lists in force. Replaced, never changed: live
 * connections keep the one they began with. New lists cost nothing until the next handshake needs them.
 */
import type { RevocationList, Revocations } from "../platform/revocations.ts";
import { TlsContext, type TlsMaterial, type TlsSide } from "../platform/tls_context.ts";
import type { TlsPolicy } from "../platform/tls_policy.ts";

interface Made {
  readonly context: TlsContext;
  readonly revocations: RevocationList | undefined;
}

export class PodTls {
  readonly #policy: TlsPolicy | undefined;
  readonly #revocations: Revocations;
  #material: TlsMaterial;
  readonly #made: Record<TlsSide, Made>;

  /** Throws on unusable material. */
  constructor(material: TlsMaterial, policy: TlsPolicy | undefined, revocations: Revocations) {
    this.#policy = policy;
    this.#revocations = revocations;
    this.#material = material;
    this.#made = { client: this.#make("client", material), server: this.#make("server", material) };
  }

  /** For the next handshake. */
  context(side: TlsSide): TlsContext {
    const made = this.#made[side];
    if (made.revocations === this.#revocations.current) return made.context;
    const next = this.#make(side, this.#material);
    made.context.close();
    this.#made[side] = next;
    return next.context;
  }

  /** A renewed certificate, perhaps with other roots. Throws on unusable material, and changes nothing then. */
  replace(material: TlsMaterial): void {
    const client = this.#make("client", material);
    const server = this.#make("server", material);
    this.close();
    this.#material = material;
    this.#made.client = client;
    this.#made.server = server;
  }

  close(): void {
    this.#made.client.context.close();
    this.#made.server.context.close();
  }

  #make(side: TlsSide, material: TlsMaterial): Made {
    const revocations = this.#revocations.current;
    return { context: new TlsContext(side, material, { policy: this.#policy, revocations }), revocations };
  }
}
