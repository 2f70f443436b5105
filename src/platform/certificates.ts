/**
 * Keys, certificate requests and certificates by OpenSSL, in PEM: what a proxy needs of its own identity without loading a second
 * cryptography library into a process that lives for months.
 *
 * Distinguished names stay empty: a workload is named by its URI alone (reference ztunnel, section 4).
 */
import { formatIp } from "../mesh/ip.ts";
import { crypto, readText, takeErrors, withPem } from "./openssl.ts";
import { type Pointer, runtime } from "./runtime.ts";

const NID_EXT_KEY_USAGE = 126;
const NID_BASIC_CONSTRAINTS = 87;
const NID_SUBJECT_ALT_NAME = 85;
const NID_KEY_USAGE = 83;
const NID_P256 = 415;
const NID_P384 = 715;
const EVP_PKEY_RSA = 6;
const EVP_PKEY_EC = 408;
const X509_VERSION_3 = 2;
const BIO_CTRL_PENDING = 10;
const GEN_EMAIL = 1;
const GEN_DNS = 2;
const GEN_URI = 6;
const GEN_IP = 7;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const latin1 = new TextDecoder("latin1");

export interface CertificateFacts {
  readonly pem: string;
  /** Decimal, as `istioctl` reads it. */
  readonly serialNumber: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** URI names of the subject. */
  readonly uris: readonly string[];
}

export type KeyKind =
  | { readonly kind: "ec"; readonly curve: "P-256" | "P-384" }
  | { readonly kind: "rsa"; readonly bits: number };

const P256: KeyKind = { kind: "ec", curve: "P-256" };

/** A private key that lives in OpenSSL's memory. `free` it. */
export class PrivateKey {
  readonly #pointer: Pointer;

  /** A fresh key. ECDSA P-256 unless another kind is asked for: RSA takes hundreds of times as long, also in each handshake. */
  constructor(kind: KeyKind = P256) {
    const type = kind.kind === "ec" ? EVP_PKEY_EC : EVP_PKEY_RSA;
    const context = must(crypto.EVP_PKEY_CTX_new_id(type, null), "allocate a key generator");
    const out = new BigUint64Array(1);
    try {
      check(crypto.EVP_PKEY_keygen_init(context), "start key generation");
      if (kind.kind === "ec") {
        const curve = kind.curve === "P-256" ? NID_P256 : NID_P384;
        check(crypto.EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, curve), `choose ${kind.curve}`);
      } else {
        check(crypto.EVP_PKEY_CTX_set_rsa_keygen_bits(context, kind.bits), `choose ${kind.bits} bits`);
      }
      check(crypto.EVP_PKEY_generate(context, new Uint8Array(out.buffer)), "generate a key");
    } finally {
      crypto.EVP_PKEY_CTX_free(context);
    }
    this.#pointer = must(runtime.pointerFrom(out[0]), "generate a key");
  }

  /** For this module and the TLS context. */
  get pointer(): Pointer {
    return this.#pointer;
  }

  /** PKCS#8. */
  toPem(): string {
    return writePem((bio) => crypto.PEM_write_bio_PKCS8PrivateKey(bio, this.#pointer, null, null, 0, null, null));
  }

  free(): void {
    crypto.EVP_PKEY_free(this.#pointer);
  }
}

/**
 * A request signed with SHA-256: empty subject and one extension, a critical subject alternative name with one URI.
 * `uri` must hold no comma and no control character, which a SPIFFE id never does; anything else throws.
 */
export function createRequest(key: PrivateKey, uri: string): string {
  const request = must(crypto.X509_REQ_new(), "allocate a request");
  const extensions = must(crypto.OPENSSL_sk_new_null(), "allocate extensions");
  const name = extension(NID_SUBJECT_ALT_NAME, `critical,URI:${plainUri(uri)}`);
  try {
    check(crypto.X509_REQ_set_pubkey(request, key.pointer), "set the key of a request");
    if (crypto.OPENSSL_sk_push(extensions, name) <= 0) fail("add an extension");
    check(crypto.X509_REQ_add_extensions(request, extensions), "add the extensions of a request");
    if (crypto.X509_REQ_sign(request, key.pointer, must(crypto.EVP_sha256(), "load SHA-256")) <= 0) {
      fail("sign a request");
    }
    return writePem((bio) => crypto.PEM_write_bio_X509_REQ(bio, request));
  } finally {
    crypto.X509_EXTENSION_free(name);
    crypto.OPENSSL_sk_free(extensions);
    crypto.X509_REQ_free(request);
  }
}

/** A short-lived certificate for the start-up self-test; the mesh's own certificates come from its CA. */
export interface CertificateTemplate {
  /** URI name of a leaf; undefined makes a root. */
  readonly uri: string | undefined;
  readonly serialNumber: number;
  /** Seconds from now. */
  readonly lifeSeconds: number;
}

/** `issuer` undefined: self-signed. Names are empty, so the chain is found by trying keys; give distinct serial numbers. */
export function createCertificate(key: PrivateKey, template: CertificateTemplate, issuer: PrivateKey = key): string {
  const certificate = must(crypto.X509_new(), "allocate a certificate");
  try {
    check(crypto.X509_set_version(certificate, X509_VERSION_3), "set a version");
    check(
      crypto.ASN1_INTEGER_set(must(crypto.X509_get_serialNumber(certificate), "serial"), template.serialNumber),
      "set a serial",
    );
    must(crypto.X509_gmtime_adj(must(crypto.X509_getm_notBefore(certificate), "time"), 0), "set a time");
    must(
      crypto.X509_gmtime_adj(must(crypto.X509_getm_notAfter(certificate), "time"), template.lifeSeconds),
      "set a time",
    );
    check(crypto.X509_set_pubkey(certificate, key.pointer), "set a key");
    for (const name of ["X509_get_subject_name", "X509_get_issuer_name"] as const) {
      // A root and what it signs share one name here; leaves differ by their critical URI.
      const text = name === "X509_get_subject_name" && template.uri !== undefined ? "leaf" : "root";
      addOrganization(must(crypto[name](certificate), "name"), text);
    }
    const extensions: [number, string][] = template.uri === undefined
      ? [[NID_BASIC_CONSTRAINTS, "critical,CA:TRUE"], [NID_KEY_USAGE, "critical,keyCertSign,cRLSign"]]
      : [
        [NID_SUBJECT_ALT_NAME, `critical,URI:${plainUri(template.uri)}`],
        [NID_EXT_KEY_USAGE, "serverAuth,clientAuth"],
      ];
    for (const [nid, value] of extensions) {
      const made = extension(nid, value);
      check(crypto.X509_add_ext(certificate, made, -1), "add an extension");
      crypto.X509_EXTENSION_free(made);
    }
    if (crypto.X509_sign(certificate, issuer.pointer, must(crypto.EVP_sha256(), "load SHA-256")) <= 0) {
      fail("sign a certificate");
    }
    return writePem((bio) => crypto.PEM_write_bio_X509(bio, certificate));
  } finally {
    crypto.X509_free(certificate);
  }
}

/** Reads the first certificate of a PEM text. Throws when there is none. */
export function readCertificate(pem: string): CertificateFacts {
  const certificate = withPem(pem, (bio) => crypto.PEM_read_bio_X509(bio, null, null, null));
  if (certificate === null) fail("read a certificate from PEM");
  try {
    return {
      pem,
      serialNumber: serialText(certificate),
      notBeforeMs: timeMs(must(crypto.X509_getm_notBefore(certificate), "read notBefore")),
      notAfterMs: timeMs(must(crypto.X509_getm_notAfter(certificate), "read notAfter")),
      uris: certificateUris(certificate),
    };
  } finally {
    crypto.X509_free(certificate);
  }
}

const nameType = new Int32Array(1);
const nameTypeBytes = new Uint8Array(nameType.buffer);

/** A subject alternative name. An `ip` is canonical text. */
export interface CertificateName {
  readonly type: "email" | "dns" | "uri" | "ip";
  readonly value: string;
}

const NAME_TYPES: Readonly<Record<number, CertificateName["type"]>> = {
  [GEN_EMAIL]: "email",
  [GEN_DNS]: "dns",
  [GEN_URI]: "uri",
  [GEN_IP]: "ip",
};

/** The URI names of a certificate's subject. */
export function certificateUris(certificate: Pointer): string[] {
  const uris: string[] = [];
  for (const { type, value } of certificateNames(certificate)) if (type === "uri") uris.push(value);
  return uris;
}

/** The names of a certificate's subject, byte for byte: an odd byte must not be able to look like another name. */
export function certificateNames(certificate: Pointer): CertificateName[] {
  const found: CertificateName[] = [];
  const names = crypto.X509_get_ext_d2i(certificate, NID_SUBJECT_ALT_NAME, null, null);
  if (names === null) {
    // An extension that is no list of names leaves an error behind, which the next read of any session would take for its own.
    crypto.ERR_clear_error();
    return found;
  }
  const count = crypto.OPENSSL_sk_num(names);
  for (let i = 0; i < count; i++) {
    const name = crypto.OPENSSL_sk_value(names, i);
    const value = name === null ? null : crypto.GENERAL_NAME_get0_value(name, nameTypeBytes);
    const type = NAME_TYPES[nameType[0]];
    if (value === null || type === undefined) continue;
    const data = crypto.ASN1_STRING_get0_data(value);
    const length = crypto.ASN1_STRING_length(value);
    if (data === null || length <= 0) continue;
    const bytes = runtime.view(data, 0, length);
    if (type !== "ip") found.push({ type, value: latin1.decode(bytes) });
    else if (length === 4 || length === 16) found.push({ type, value: formatIp(bytes) });
  }
  crypto.GENERAL_NAMES_free(names);
  return found;
}

function serialText(certificate: Pointer): string {
  const number = must(
    crypto.ASN1_INTEGER_to_BN(must(crypto.X509_get_serialNumber(certificate), "serial"), null),
    "serial",
  );
  const text = must(crypto.BN_bn2dec(number), "serial");
  const serial = readText(text);
  crypto.CRYPTO_free(text, null, 0);
  crypto.BN_free(number);
  return serial;
}

/** An ASN.1 time. `struct tm` begins with nine 32-bit integers: seconds to year; the month counts from 0 and the year from 1900. */
export function timeMs(time: Pointer): number {
  const tm = new Int32Array(14);
  check(crypto.ASN1_TIME_to_tm(time, new Uint8Array(tm.buffer)), "read a time");
  return Date.UTC(tm[5] + 1900, tm[4], tm[3], tm[2], tm[1], tm[0]);
}

function extension(nid: number, value: string): Pointer {
  return must(crypto.X509V3_EXT_conf_nid(null, null, nid, encoder.encode(value + "\0")), `make the extension ${value}`);
}

const MBSTRING_UTF8 = 0x1000;

function addOrganization(name: Pointer, text: string): void {
  const bytes = encoder.encode(text);
  check(
    crypto.X509_NAME_add_entry_by_txt(name, encoder.encode("O\0"), MBSTRING_UTF8, bytes, bytes.length, -1, 0),
    "set a name",
  );
}

/** OpenSSL's extension syntax would read a comma as the start of another name. */
function plainUri(uri: string): string {
  for (const character of uri) {
    if (character === "," || character === ";" || character < "!" || character > "~") {
      throw new TypeError(`certificate request: "${uri}" cannot be a URI name`);
    }
  }
  return uri;
}

function writePem(write: (bio: Pointer) => number): string {
  const bio = must(crypto.BIO_new(must(crypto.BIO_s_mem(), "reach the memory BIO")), "allocate a BIO");
  try {
    check(write(bio), "write PEM");
    const bytes = new Uint8Array(crypto.BIO_ctrl(bio, BIO_CTRL_PENDING, 0, null));
    if (crypto.BIO_read(bio, bytes, bytes.length) !== bytes.length) fail("read PEM back");
    return decoder.decode(bytes);
  } finally {
    crypto.BIO_free(bio);
  }
}

function check(outcome: number, what: string): void {
  if (outcome !== 1) fail(what);
}

function must(pointer: Pointer | null, what: string): Pointer {
  if (pointer === null) fail(what);
  return pointer;
}

function fail(what: string): never {
  const reason = takeErrors();
  throw new Error(`certificates: cannot ${what}${reason === "" ? "" : `: ${reason}`}`);
}
