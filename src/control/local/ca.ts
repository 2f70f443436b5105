/**
 * The embedded certificate authority of local mode: what istiod's CA is in a cluster (reference ztunnel.md section 4).
 *
 * It signs a request only after the requester has proved to hold the key, only for the one SPIFFE id that was asked for,
 * and takes nothing else from the request. Whether the asker may have that id is the caller's question.
 */
import type { Extension, Pkcs10CertificateRequest, PublicKey, X509Certificate } from "@peculiar/x509";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LocalCertificate } from "./channel_client.ts";
import { x509 } from "./x509.ts";

export interface LocalCaOptions {
  /** Keeps root and key across runs, readable by their owner only. Without it the root lives and dies with the process. */
  readonly directory?: string;
  /** Sign leaves by an intermediate instead of the root, as many real meshes do. */
  readonly intermediate?: boolean;
  /** Life of a leaf in milliseconds; istiod's default is a day. May be negative, for a certificate that is expired at birth. */
  readonly leafTtlMs?: number;
  /** The time in milliseconds since 1970. */
  readonly now?: () => number;
}

export interface LocalCa {
  /** PEM of every root that peers must trust. */
  readonly roots: readonly string[];
  /** Signs `csrPem` for `identity` (a SPIFFE id). Rejects with a text for the asker when the request is not in order. */
  sign(identity: string, csrPem: string): Promise<LocalCertificate>;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const LEAF_TTL_MS = DAY_MS;
const CA_TTL_MS = 3650 * DAY_MS;
/** Peers whose clock is a little behind accept a fresh certificate; istiod backdates by the same. */
const BACKDATE_MS = 2 * 60 * 1000;
/** A P-256 request with one URI is about 500 bytes. */
const MAX_CSR_CHARS = 16 * 1024;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const SUBJECT_ALTERNATIVE_NAME = "2.5.29.17";
const EXTENDED_KEY_USAGE = { serverAuth: "1.3.6.1.5.5.7.3.1", clientAuth: "1.3.6.1.5.5.7.3.2" } as const;

interface Issuer {
  readonly certificate: X509Certificate;
  readonly key: CryptoKey;
}

/** Makes (or reads) the root. Rejects when the directory cannot be used. */
export async function createLocalCa(options: LocalCaOptions = {}): Promise<LocalCa> {
  const now = options.now ?? Date.now;
  const root = options.directory === undefined
    ? await createRoot(now(), false)
    : await loadOrCreateRoot(options.directory, now());
  const issuer = options.intermediate ? await createIntermediate(root, now()) : root;
  const intermediates = issuer === root ? [] : [issuer.certificate.toString("pem")];
  const roots = [root.certificate.toString("pem")];
  return {
    roots,
    async sign(identity, csrPem) {
      const publicKey = await checkRequest(identity, csrPem);
      const leaf = await signLeaf(issuer, identity, publicKey, now(), options.leafTtlMs ?? LEAF_TTL_MS);
      return { chain: [leaf.toString("pem"), ...intermediates], roots };
    },
  };
}

async function checkRequest(identity: string, csrPem: string): Promise<PublicKey> {
  if (csrPem.length > MAX_CSR_CHARS) throw new Error("the certificate request is too large");
  let request: Pkcs10CertificateRequest;
  let names: readonly { readonly type: string; readonly value: string }[] | undefined;
  let proven: boolean;
  try {
    request = new x509.Pkcs10CertificateRequest(csrPem);
    const extension = request.getExtension(SUBJECT_ALTERNATIVE_NAME);
    names = extension ? new x509.SubjectAlternativeNameExtension(extension.rawData).names.toJSON() : undefined;
    proven = await request.verify();
  } catch {
    throw new Error("the certificate request cannot be read");
  }
  if (!proven) throw new Error("the certificate request is not signed by its own key");
  const algorithm = request.publicKey.algorithm as { readonly name: string; readonly namedCurve?: string };
  if (algorithm.name !== ALGORITHM.name || algorithm.namedCurve !== ALGORITHM.namedCurve) {
    throw new Error("the certificate request has a key that is not ECDSA P-256");
  }
  if (names?.length !== 1 || names[0]?.type !== "url" || names[0].value !== identity) {
    throw new Error(`the certificate request does not name exactly ${identity}`);
  }
  return request.publicKey;
}

async function signLeaf(
  issuer: Issuer,
  identity: string,
  publicKey: PublicKey,
  nowMs: number,
  ttlMs: number,
): Promise<X509Certificate> {
  // An expired certificate still has to begin before it ends.
  const notAfter = nowMs + ttlMs;
  const notBefore = Math.min(nowMs, notAfter) - BACKDATE_MS;
  return await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    issuer: issuer.certificate.subject,
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
    publicKey,
    signingKey: issuer.key,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension([EXTENDED_KEY_USAGE.serverAuth, EXTENDED_KEY_USAGE.clientAuth]),
      // The subject is empty, so the name must be critical (RFC 5280 section 4.2.1.6).
      new x509.SubjectAlternativeNameExtension([{ type: "url", value: identity }], true),
      // All roots here have one name: after a change this tells whose leaf it is.
      await x509.AuthorityKeyIdentifierExtension.create(await issuer.certificate.publicKey.export()),
    ],
  });
}

async function createRoot(nowMs: number, extractable: boolean): Promise<Issuer> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, extractable, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: "O=ambit local, CN=root",
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + CA_TTL_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: await caExtensions(keys.publicKey, undefined),
  });
  return { certificate, key: keys.privateKey };
}

async function createIntermediate(root: Issuer, nowMs: number): Promise<Issuer> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject: "O=ambit local, CN=intermediate",
    issuer: root.certificate.subject,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: root.certificate.notAfter,
    publicKey: keys.publicKey,
    signingKey: root.key,
    signingAlgorithm: ALGORITHM,
    extensions: await caExtensions(keys.publicKey, 0),
  });
  return { certificate, key: keys.privateKey };
}

async function caExtensions(publicKey: CryptoKey, pathLength: number | undefined): Promise<Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(publicKey),
  ];
}

/** 127 random bits: RFC 5280 wants a positive number of at most 20 octets, and 64 bits of it unpredictable. */
function randomSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

async function loadOrCreateRoot(directory: string, nowMs: number): Promise<Issuer> {
  const certificatePath = join(directory, "root-cert.pem");
  const keyPath = join(directory, "root-key.pem");
  const stored = await readRoot(certificatePath, keyPath);
  if (stored !== undefined && stored.certificate.notAfter.getTime() > nowMs + LEAF_TTL_MS) return stored;
  const root = await createRoot(nowMs, true);
  const key = await crypto.subtle.exportKey("pkcs8", root.key);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeFile(keyPath, x509.PemConverter.encode(key, "PRIVATE KEY"), { mode: 0o600 });
  await chmod(keyPath, 0o600); // the mode above is for a new file only
  await writeFile(certificatePath, root.certificate.toString("pem"));
  return root;
}

async function readRoot(certificatePath: string, keyPath: string): Promise<Issuer | undefined> {
  let certificatePem: string;
  let keyPem: string;
  try {
    certificatePem = await readFile(certificatePath, "utf8");
    keyPem = await readFile(keyPath, "utf8");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw error;
  }
  const [pkcs8] = x509.PemConverter.decode(keyPem);
  if (pkcs8 === undefined) throw new Error(`${keyPath} holds no key; remove it to have a new root made`);
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, false, ["sign"]);
  return { certificate: new x509.X509Certificate(certificatePem), key };
}
