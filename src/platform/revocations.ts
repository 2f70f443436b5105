/**
 * Certificate revocation lists in OpenSSL's hands (reference ztunnel, section 4): the whole chain is looked up, an issuer without a
 * list revokes nothing, and a list stays in force after its own end. What OpenSSL cannot make sense of refuses the peer.
 *
 * A list is checked against its issuer when a certificate of that issuer is: only then the issuer is known.
 */
import { timeMs } from "./certificates.ts";
import { crypto, takeErrors, verifyErrorText, withPem } from "./openssl.ts";
import { type Pointer, runtime } from "./runtime.ts";

const X509_V_OK = 0;
const X509_V_ERR_UNABLE_TO_GET_CRL = 3;
const X509_V_ERR_CRL_NOT_YET_VALID = 11;
const X509_V_ERR_CRL_HAS_EXPIRED = 12;
export const X509_V_ERR_CERT_REVOKED = 23;
const X509_V_FLAG_CRL_CHECK = 0x4;
const X509_V_FLAG_CRL_CHECK_ALL = 0x8;
/** Without it OpenSSL passes over lists for some reasons only and lists of another signer, as if they were not there. */
const X509_V_FLAG_EXTENDED_CRL_SUPPORT = 0x1000;
const X509_V_FLAG_NO_CHECK_TIME = 0x20_0000;
const CRL_FLAGS = X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL | X509_V_FLAG_EXTENDED_CRL_SUPPORT;
/** Only with the list it completes it says something; OpenSSL would pass over it. */
const NID_DELTA_CRL = 140;

/** Called for each certificate and each fault of a chain: 1 goes on, 0 refuses. */
let tolerant: Pointer | undefined;

/** The three faults that are none here: no list of this issuer, a list of the future, a list whose life is over. */
function tolerate(ok: number, context: Pointer): number {
  if (ok === 1) return 1;
  try {
    const error = crypto.X509_STORE_CTX_get_error(context);
    if (
      error !== X509_V_ERR_UNABLE_TO_GET_CRL && error !== X509_V_ERR_CRL_NOT_YET_VALID &&
      error !== X509_V_ERR_CRL_HAS_EXPIRED
    ) return 0;
    crypto.X509_STORE_CTX_set_error(context, X509_V_OK);
    return 1;
  } catch {
    return 0;
  }
}

/** Why a chain is refused. */
export interface Revoked {
  readonly code: number;
  readonly message: string;
}

export class RevocationList {
  /** Lists in it, one an issuer as a rule. */
  readonly size: number;
  /** Certificates that they revoke. */
  readonly revoked: number;
  /** When the first of them should have been replaced; undefined when none says. */
  readonly nextUpdateMs: number | undefined;
  #crls: Pointer[] = [];
  /** Holds the lists and no root, for chains that were verified before. */
  #store: Pointer | null;

  /** `pems`: one list each. Throws when one is no list, or of a kind that would not be honoured. */
  constructor(pems: readonly string[]) {
    crypto.ERR_clear_error();
    this.#store = crypto.X509_STORE_new();
    try {
      let revoked = 0;
      let nextUpdateMs: number | undefined;
      for (let i = 0; i < pems.length; i++) {
        const crl = readCrl(pems[i], `list ${i + 1} of ${pems.length}`);
        this.#crls.push(crl);
        const entries = crypto.X509_CRL_get_REVOKED(crl);
        if (entries !== null) revoked += Math.max(0, crypto.OPENSSL_sk_num(entries));
        const next = crypto.X509_CRL_get0_nextUpdate(crl);
        if (next !== null) nextUpdateMs = Math.min(nextUpdateMs ?? Infinity, timeMs(next));
      }
      this.size = pems.length;
      this.revoked = revoked;
      this.nextUpdateMs = nextUpdateMs;
      if (this.#store === null) fail("allocate a certificate store");
      this.#load(this.#store, X509_V_FLAG_NO_CHECK_TIME);
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** Has every chain that this store verifies from now on looked up. The store shares the lists. */
  enforce(store: Pointer): void {
    if (this.#store === null) throw new Error("revocation lists: they were freed");
    if (this.#crls.length > 0) this.#load(store, 0);
  }

  /**
   * Looks up a chain that was verified before, whatever its age is now. A certificate that no list names, by far the most, costs no
   * signature check.
   */
  check(chain: Pointer): Revoked | undefined {
    if (!this.#names(chain)) return undefined;
    const leaf = crypto.OPENSSL_sk_value(chain, 0);
    const context = crypto.X509_STORE_CTX_new();
    if (context === null || this.#store === null) fail("allocate a verification");
    try {
      if (crypto.X509_STORE_CTX_init(context, this.#store, leaf, null) !== 1) fail("begin a verification");
      // Each certificate of it was found good: what is asked is only whether a list revokes one.
      crypto.X509_STORE_CTX_set0_trusted_stack(context, chain);
      if (crypto.X509_verify_cert(context) === 1) return undefined;
      const code = crypto.X509_STORE_CTX_get_error(context);
      return { code, message: verifyErrorText(code) };
    } finally {
      crypto.X509_STORE_CTX_free(context);
      crypto.ERR_clear_error();
    }
  }

  /** Contexts that enforce it keep it as long as they live. */
  free(): void {
    for (const crl of this.#crls) crypto.X509_CRL_free(crl);
    this.#crls = [];
    if (this.#store !== null) crypto.X509_STORE_free(this.#store);
    this.#store = null;
  }

  #names(chain: Pointer): boolean {
    const count = crypto.OPENSSL_sk_num(chain);
    for (let i = 0; i < count; i++) {
      const certificate = crypto.OPENSSL_sk_value(chain, i);
      for (const crl of this.#crls) {
        if (crypto.X509_CRL_get0_by_cert(crl, entry, certificate) !== 0) return true;
      }
    }
    return false;
  }

  #load(store: Pointer, flags: number): void {
    tolerant ??= runtime.callback(
      { args: ["i32", "pointer"], returns: "i32" },
      tolerate as (...args: never[]) => number,
    );
    for (const crl of this.#crls) {
      if (crypto.X509_STORE_add_crl(store, crl) !== 1) fail("add a list");
    }
    if (crypto.X509_STORE_set_flags(store, CRL_FLAGS | flags) !== 1) fail("ask for revocation checks");
    crypto.X509_STORE_set_verify_cb(store, tolerant);
  }
}

/** The lists in force, replaced as a whole; undefined: nothing is looked up. */
export interface Revocations {
  readonly current: RevocationList | undefined;
}

/** Where OpenSSL writes the address of an entry that it found. */
const entry = new Uint8Array(8);

function readCrl(pem: string, which: string): Pointer {
  const crl = withPem(pem, (bio) => crypto.PEM_read_bio_X509_CRL(bio, null, null, null));
  if (crl === null) fail(`read ${which}`);
  if (crypto.X509_CRL_get_ext_by_NID(crl, NID_DELTA_CRL, -1) >= 0) {
    crypto.X509_CRL_free(crl);
    throw new Error(`revocation lists: ${which} is a delta CRL, which is not supported: give the complete list`);
  }
  return crl;
}

function fail(what: string): never {
  const reason = takeErrors();
  throw new Error(`revocation lists: cannot ${what}${reason === "" ? "" : `: ${reason}`}`);
}
