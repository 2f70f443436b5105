/**
 * The CA that istiod is given, as an operator plugs one in (`cacerts`): a root, and an intermediate with which istiod signs. The test has
 * the keys too, so that it can make what istiod would not: certificates of another trust domain or with other times, and lists of
 * revoked ones.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { x509 } from "../../../src/control/local/x509.ts";
import { createKeyAndRequest } from "../../../src/identity/csr.ts";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";

export interface LeafTimes {
  /** Relative to now. Default: from two minutes ago for a day, as istiod's. */
  readonly fromMs?: number;
  readonly untilMs?: number;
}

type Certificate = InstanceType<typeof x509.X509Certificate>;

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;
const BACKDATE_MS = 120_000;

export class MeshCa {
  /** PEM. */
  readonly root: string;
  readonly intermediate: string;
  readonly #issuer: Certificate;
  readonly #key: CryptoKey;

  private constructor(root: Certificate, intermediate: Certificate, key: CryptoKey) {
    this.root = root.toString("pem");
    this.intermediate = intermediate.toString("pem");
    this.#issuer = intermediate;
    this.#key = key;
  }

  static async create(): Promise<MeshCa> {
    const [rootKeys, keys] = await Promise.all([generateKeys(), generateKeys()]);
    const notBefore = new Date(Date.now() - DAY_MS);
    const notAfter = new Date(Date.now() + 30 * DAY_MS);
    const common = { notBefore, notAfter, signingAlgorithm: ALGORITHM };
    const root = await x509.X509CertificateGenerator.createSelfSigned({
      ...common,
      name: "O=lab, CN=root",
      serialNumber: randomSerial(),
      keys: rootKeys,
      extensions: await caExtensions(rootKeys.publicKey),
    });
    const intermediate = await x509.X509CertificateGenerator.create({
      ...common,
      serialNumber: randomSerial(),
      subject: "O=lab, CN=intermediate",
      issuer: root.subject,
      publicKey: keys.publicKey,
      signingKey: rootKeys.privateKey,
      extensions: await caExtensions(keys.publicKey),
    });
    return new MeshCa(root, intermediate, keys.privateKey);
  }

  /** Reads what {@link writeFiles} wrote. */
  static async load(directory: string): Promise<MeshCa> {
    const read = (name: string) => readFile(join(directory, name), "utf8");
    const [key, certificate, root] = await Promise.all(["ca-key.pem", "ca-cert.pem", "root-cert.pem"].map(read));
    const pkcs8 = x509.PemConverter.decode(key!)[0]!;
    return new MeshCa(
      new x509.X509Certificate(root!),
      new x509.X509Certificate(certificate!),
      await crypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, true, ["sign"]),
    );
  }

  /** The files of the Secret `cacerts`, as istiod's pod has them mounted. `roots` is what the mesh shall trust: PEM. */
  async writeFiles(directory: string, roots: readonly string[] = [this.root]): Promise<void> {
    await mkdir(directory, { recursive: true });
    const key = x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", this.#key), "PRIVATE KEY");
    await Promise.all([
      writeFile(join(directory, "ca-key.pem"), `${key}\n`, { mode: 0o600 }),
      writeFile(join(directory, "ca-cert.pem"), `${this.intermediate}\n`),
      writeFile(join(directory, "cert-chain.pem"), `${this.intermediate}\n`),
      writeFile(join(directory, "root-cert.pem"), `${roots.join("\n")}\n`),
    ]);
  }

  /** A key and a certificate for any identity. */
  async issue(identity: string, times: LeafTimes = {}): Promise<TlsMaterial> {
    const { privateKeyPem, csrPem } = createKeyAndRequest(identity);
    const { chain, roots } = await this.sign(csrPem, identity, times);
    return { privateKey: privateKeyPem, chain, roots };
  }

  /** Signs a request's key for an identity. */
  async sign(csrPem: string, identity: string, { fromMs = -BACKDATE_MS, untilMs = DAY_MS }: LeafTimes = {}) {
    const { publicKey } = new x509.Pkcs10CertificateRequest(csrPem);
    const { digitalSignature, keyEncipherment } = x509.KeyUsageFlags;
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: randomSerial(),
      issuer: this.#issuer.subject,
      notBefore: new Date(Date.now() + fromMs),
      notAfter: new Date(Date.now() + untilMs),
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.KeyUsagesExtension(digitalSignature | keyEncipherment, true),
        new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]),
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.SubjectAlternativeNameExtension([{ type: "url", value: identity }], true),
      ],
    });
    return { chain: [leaf.toString("pem"), this.intermediate], roots: [this.root] };
  }

  /** A list of revoked serial numbers (hexadecimal), PEM. */
  async revoke(serials: readonly string[]): Promise<string> {
    const list = await x509.X509CrlGenerator.create({
      issuer: this.#issuer.subject,
      thisUpdate: new Date(Date.now() - BACKDATE_MS),
      nextUpdate: new Date(Date.now() + DAY_MS),
      signingAlgorithm: ALGORITHM,
      signingKey: this.#key,
      entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: new Date(Date.now() - BACKDATE_MS) })),
    });
    return `${x509.PemConverter.encode(list.rawData, "X509 CRL")}\n`;
  }
}

function generateKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

async function caExtensions(publicKey: CryptoKey) {
  const { keyCertSign, cRLSign } = x509.KeyUsageFlags;
  return [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(publicKey),
  ];
}

/** Positive, and unlike any other. */
function randomSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

/** The serial number of a certificate, hexadecimal, as {@link MeshCa.revoke} takes it. */
export function serialOf(pem: string): string {
  return new x509.X509Certificate(pem).serialNumber;
}
