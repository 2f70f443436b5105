/** Certificate authorities for tests: every kind of certificate that a peer might present, good or bad. */
import type { Extension, X509Certificate } from "@peculiar/x509";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";

// One after the other: the library needs its polyfill when it starts.
await import("reflect-metadata");
const x509 = await import("@peculiar/x509");

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const HOUR_MS = 3_600_000;
export const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
export const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

export interface LeafOptions {
  /** URI names; default `spiffe://test/ns/default/sa/test`. */
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** Relative to now; default an hour ago to in an hour. */
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  /** Extended key usages; default both. */
  readonly usages?: readonly string[];
  /** Default empty. */
  readonly subject?: string;
  /** DER of the subject alternative name, instead of the names above. */
  readonly rawNames?: Uint8Array<ArrayBuffer>;
}

export interface CrlOptions {
  /** Relative to now; default an hour ago to in an hour. */
  readonly thisUpdateMs?: number;
  readonly nextUpdateMs?: number;
  /** Further extensions, as DER by object id; all critical. */
  readonly extensions?: Readonly<Record<string, Uint8Array<ArrayBuffer>>>;
  /** Signed by another's key, under this one's name. */
  readonly signer?: TestAuthority;
  /** Default true, as RFC 5280 asks. */
  readonly keyIdentifier?: boolean;
}

/** A pair of PEM texts. */
export interface KeyAndChain {
  readonly privateKey: string;
  readonly chain: readonly string[];
}

export class TestAuthority {
  /** Serial numbers are unique in the process. */
  static #serial = 1;
  readonly #certificate: X509Certificate;
  readonly #key: CryptoKey;
  /** Intermediates down from the root, nearest to the leaf first. */
  readonly #path: readonly string[];

  private constructor(certificate: X509Certificate, key: CryptoKey, path: readonly string[]) {
    this.#certificate = certificate;
    this.#key = key;
    this.#path = path;
  }

  /** An authority that is none: an ordinary leaf whose key signs. */
  async pretender(): Promise<TestAuthority> {
    const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const certificate = await this.#sign(keys.publicKey, "CN=pretender", {}, [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    ]);
    return new TestAuthority(certificate, keys.privateKey, [certificate.toString("pem"), ...this.#path]);
  }

  /** A self-signed root. */
  static async create(name = "root"): Promise<TestAuthority> {
    const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serial(TestAuthority.#serial++),
      name: `CN=${name}`,
      notBefore: new Date(Date.now() - HOUR_MS),
      notAfter: new Date(Date.now() + HOUR_MS),
      keys,
      signingAlgorithm: ALGORITHM,
      extensions: [...CA_EXTENSIONS, await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)],
    });
    return new TestAuthority(certificate, keys.privateKey, []);
  }

  /** A root that exists already: certificate and PKCS#8 key in PEM. */
  static async load(certificatePem: string, keyPem: string): Promise<TestAuthority> {
    const key = await crypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(keyPem), ALGORITHM, true, [
      "sign",
    ]);
    return new TestAuthority(new x509.X509Certificate(certificatePem), key, []);
  }

  get pem(): string {
    return this.#certificate.toString("pem");
  }

  async intermediate(name = "intermediate"): Promise<TestAuthority> {
    const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const certificate = await this.#sign(keys.publicKey, `CN=${name}`, {}, [
      ...CA_EXTENSIONS,
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ]);
    return new TestAuthority(certificate, keys.privateKey, [certificate.toString("pem"), ...this.#path]);
  }

  async leaf(options: LeafOptions = {}): Promise<KeyAndChain> {
    const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const names = [
      ...(options.uris ?? ["spiffe://test/ns/default/sa/test"]).map((value) => ({ type: "url" as const, value })),
      ...(options.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
    ];
    const certificate = await this.#sign(keys.publicKey, options.subject ?? "", options, [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([...(options.usages ?? [SERVER_AUTH, CLIENT_AUTH])]),
      ...(options.rawNames !== undefined
        ? [new x509.Extension("2.5.29.17", true, options.rawNames)]
        : names.length === 0
        ? []
        : [new x509.SubjectAlternativeNameExtension(names, true)]),
    ]);
    const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
    return {
      privateKey: x509.PemConverter.encode(pkcs8, "PRIVATE KEY"),
      chain: [certificate.toString("pem"), ...this.#path],
    };
  }

  /** A revocation list of this authority in PEM, with the first certificate of each PEM text on it. */
  async crl(revoked: readonly string[], options: CrlOptions = {}): Promise<string> {
    const signer = options.signer ?? this;
    const crl = await x509.X509CrlGenerator.create({
      issuer: this.#certificate.subject,
      thisUpdate: new Date(Date.now() + (options.thisUpdateMs ?? -HOUR_MS)),
      nextUpdate: new Date(Date.now() + (options.nextUpdateMs ?? HOUR_MS)),
      signingKey: signer.#key,
      signingAlgorithm: ALGORITHM,
      entries: revoked.map((pem) => ({
        serialNumber: new x509.X509Certificate(pem).serialNumber,
        revocationDate: new Date(Date.now() - HOUR_MS),
      })),
      extensions: [
        ...(options.keyIdentifier === false
          ? []
          : [await x509.AuthorityKeyIdentifierExtension.create(await signer.#certificate.publicKey.export())]),
        ...Object.entries(options.extensions ?? {}).map(([oid, der]) => new x509.Extension(oid, true, der)),
      ],
    });
    return `${x509.PemConverter.encode(crl.rawData, "X509 CRL").trimEnd()}\n`;
  }

  /** A leaf that trusts `roots`, by default this authority alone. */
  async material(options: LeafOptions = {}, roots: readonly string[] = [this.pem]): Promise<TlsMaterial> {
    return { ...await this.leaf(options), roots };
  }

  async #sign(
    publicKey: CryptoKey,
    subject: string,
    options: LeafOptions,
    extensions: Extension[],
  ): Promise<X509Certificate> {
    return x509.X509CertificateGenerator.create({
      serialNumber: serial(TestAuthority.#serial++),
      subject,
      issuer: this.#certificate.subject,
      notBefore: new Date(Date.now() + (options.notBeforeMs ?? -HOUR_MS)),
      notAfter: new Date(Date.now() + (options.notAfterMs ?? HOUR_MS)),
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: ALGORITHM,
      // As Go's library adds it, and so istiod: two roots of one name are told apart by it.
      extensions: [
        ...extensions,
        await x509.AuthorityKeyIdentifierExtension.create(await this.#certificate.publicKey.export()),
      ],
    });
  }
}

const CA_EXTENSIONS = [
  new x509.BasicConstraintsExtension(true, undefined, true),
  new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
];

function serial(n: number): string {
  return n.toString(16).padStart(4, "0");
}
