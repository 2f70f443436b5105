/**
 * The symbols of OpenSSL 3 in use, loaded once per thread, and its error queue.
 *
 * Prototypes are those of the OpenSSL 3.0 manual pages. `ERR_clear_error` runs before each call whose outcome is
 * read by `SSL_get_error`, because that function looks at the thread's error queue.
 */
import { type Library, type Pointer, runtime, type SymbolSpec } from "./runtime.ts";

const sslSymbols = {
  SSL_CIPHER_get_name: { args: ["pointer"], returns: "pointer" },
  SSL_CTX_check_private_key: { args: ["pointer"], returns: "i32" },
  SSL_CTX_ctrl: { args: ["pointer", "i32", "u32", "pointer"], returns: "i32" },
  SSL_CTX_free: { args: ["pointer"], returns: "void" },
  SSL_CTX_get_cert_store: { args: ["pointer"], returns: "pointer" },
  SSL_CTX_new: { args: ["pointer"], returns: "pointer" },
  SSL_CTX_set_alpn_protos: { args: ["pointer", "buffer", "u32"], returns: "i32" },
  SSL_CTX_set_alpn_select_cb: { args: ["pointer", "pointer", "pointer"], returns: "void" },
  SSL_CTX_set_cipher_list: { args: ["pointer", "buffer"], returns: "i32" },
  SSL_CTX_set_ciphersuites: { args: ["pointer", "buffer"], returns: "i32" },
  SSL_CTX_set_default_read_buffer_len: { args: ["pointer", "u32"], returns: "void" },
  SSL_CTX_set_num_tickets: { args: ["pointer", "u32"], returns: "i32" },
  SSL_CTX_set_options: { args: ["pointer", "u64"], returns: "u64" },
  SSL_CTX_set_verify: { args: ["pointer", "i32", "pointer"], returns: "void" },
  SSL_CTX_use_PrivateKey: { args: ["pointer", "pointer"], returns: "i32" },
  SSL_CTX_use_certificate: { args: ["pointer", "pointer"], returns: "i32" },
  SSL_ctrl: { args: ["pointer", "i32", "u32", "pointer"], returns: "i32" },
  SSL_do_handshake: { args: ["pointer"], returns: "i32" },
  SSL_free: { args: ["pointer"], returns: "void" },
  SSL_get0_alpn_selected: { args: ["pointer", "buffer", "buffer"], returns: "void" },
  SSL_get0_verified_chain: { args: ["pointer"], returns: "pointer" },
  SSL_get1_peer_certificate: { args: ["pointer"], returns: "pointer" },
  SSL_get_current_cipher: { args: ["pointer"], returns: "pointer" },
  SSL_get_error: { args: ["pointer", "i32"], returns: "i32" },
  SSL_get_verify_result: { args: ["pointer"], returns: "i32" },
  SSL_get_version: { args: ["pointer"], returns: "pointer" },
  SSL_has_pending: { args: ["pointer"], returns: "i32" },
  SSL_new: { args: ["pointer"], returns: "pointer" },
  SSL_read: { args: ["pointer", "buffer", "i32"], returns: "i32" },
  SSL_set_accept_state: { args: ["pointer"], returns: "void" },
  SSL_set_bio: { args: ["pointer", "pointer", "pointer"], returns: "void" },
  SSL_set_connect_state: { args: ["pointer"], returns: "void" },
  SSL_set_fd: { args: ["pointer", "i32"], returns: "i32" },
  SSL_shutdown: { args: ["pointer"], returns: "i32" },
  SSL_write: { args: ["pointer", "buffer", "i32"], returns: "i32" },
  TLS_method: { args: [], returns: "pointer" },
} as const satisfies Record<string, SymbolSpec>;

const cryptoSymbols = {
  ASN1_STRING_get0_data: { args: ["pointer"], returns: "pointer" },
  ASN1_STRING_length: { args: ["pointer"], returns: "i32" },
  BIO_free: { args: ["pointer"], returns: "i32" },
  BIO_new_mem_buf: { args: ["buffer", "i32"], returns: "pointer" },
  ERR_clear_error: { args: [], returns: "void" },
  ERR_error_string_n: { args: ["u64", "buffer", "u32"], returns: "void" },
  ERR_get_error: { args: [], returns: "u64" },
  ERR_reason_error_string: { args: ["u64"], returns: "pointer" },
  EVP_PKEY_free: { args: ["pointer"], returns: "void" },
  GENERAL_NAMES_free: { args: ["pointer"], returns: "void" },
  GENERAL_NAME_get0_value: { args: ["pointer", "buffer"], returns: "pointer" },
  OPENSSL_sk_num: { args: ["pointer"], returns: "i32" },
  OPENSSL_sk_value: { args: ["pointer", "i32"], returns: "pointer" },
  OpenSSL_version: { args: ["i32"], returns: "pointer" },
  PEM_read_bio_PrivateKey: { args: ["pointer", "pointer", "pointer", "buffer"], returns: "pointer" },
  PEM_read_bio_X509: { args: ["pointer", "pointer", "pointer", "pointer"], returns: "pointer" },
  PEM_read_bio_X509_CRL: { args: ["pointer", "pointer", "pointer", "pointer"], returns: "pointer" },
  X509_STORE_add_cert: { args: ["pointer", "pointer"], returns: "i32" },
  X509_CRL_free: { args: ["pointer"], returns: "void" },
  X509_CRL_get0_by_cert: { args: ["pointer", "buffer", "pointer"], returns: "i32" },
  X509_CRL_get0_nextUpdate: { args: ["pointer"], returns: "pointer" },
  X509_CRL_get_REVOKED: { args: ["pointer"], returns: "pointer" },
  X509_CRL_get_ext_by_NID: { args: ["pointer", "i32", "i32"], returns: "i32" },
  X509_STORE_CTX_free: { args: ["pointer"], returns: "void" },
  X509_STORE_CTX_get_error: { args: ["pointer"], returns: "i32" },
  X509_STORE_CTX_init: { args: ["pointer", "pointer", "pointer", "pointer"], returns: "i32" },
  X509_STORE_CTX_new: { args: [], returns: "pointer" },
  X509_STORE_CTX_set0_trusted_stack: { args: ["pointer", "pointer"], returns: "void" },
  X509_STORE_CTX_set_error: { args: ["pointer", "i32"], returns: "void" },
  X509_STORE_add_crl: { args: ["pointer", "pointer"], returns: "i32" },
  X509_STORE_free: { args: ["pointer"], returns: "void" },
  X509_STORE_new: { args: [], returns: "pointer" },
  X509_STORE_set_flags: { args: ["pointer", "u32"], returns: "i32" },
  X509_STORE_set_verify_cb: { args: ["pointer", "pointer"], returns: "void" },
  X509_verify_cert: { args: ["pointer"], returns: "i32" },
  X509_free: { args: ["pointer"], returns: "void" },
  X509_get_ext_d2i: { args: ["pointer", "i32", "pointer", "pointer"], returns: "pointer" },
  X509_verify_cert_error_string: { args: ["i32"], returns: "pointer" },
  ASN1_INTEGER_set: { args: ["pointer", "i32"], returns: "i32" },
  ASN1_INTEGER_to_BN: { args: ["pointer", "pointer"], returns: "pointer" },
  ASN1_TIME_to_tm: { args: ["pointer", "buffer"], returns: "i32" },
  BIO_ctrl: { args: ["pointer", "i32", "i32", "pointer"], returns: "i32" },
  BIO_new: { args: ["pointer"], returns: "pointer" },
  BIO_read: { args: ["pointer", "buffer", "i32"], returns: "i32" },
  BIO_s_mem: { args: [], returns: "pointer" },
  BIO_write: { args: ["pointer", "buffer", "i32"], returns: "i32" },
  BN_bn2dec: { args: ["pointer"], returns: "pointer" },
  BN_free: { args: ["pointer"], returns: "void" },
  CRYPTO_free: { args: ["pointer", "pointer", "i32"], returns: "void" },
  EVP_PKEY_CTX_free: { args: ["pointer"], returns: "void" },
  EVP_PKEY_CTX_new_id: { args: ["i32", "pointer"], returns: "pointer" },
  EVP_PKEY_CTX_set_ec_paramgen_curve_nid: { args: ["pointer", "i32"], returns: "i32" },
  EVP_PKEY_CTX_set_rsa_keygen_bits: { args: ["pointer", "i32"], returns: "i32" },
  EVP_PKEY_generate: { args: ["pointer", "buffer"], returns: "i32" },
  EVP_PKEY_keygen_init: { args: ["pointer"], returns: "i32" },
  EVP_sha256: { args: [], returns: "pointer" },
  OPENSSL_sk_free: { args: ["pointer"], returns: "void" },
  OPENSSL_sk_new_null: { args: [], returns: "pointer" },
  OPENSSL_sk_push: { args: ["pointer", "pointer"], returns: "i32" },
  PEM_write_bio_PKCS8PrivateKey: {
    args: ["pointer", "pointer", "pointer", "pointer", "i32", "pointer", "pointer"],
    returns: "i32",
  },
  PEM_write_bio_X509: { args: ["pointer", "pointer"], returns: "i32" },
  PEM_write_bio_X509_REQ: { args: ["pointer", "pointer"], returns: "i32" },
  X509V3_EXT_conf_nid: { args: ["pointer", "pointer", "i32", "buffer"], returns: "pointer" },
  X509_EXTENSION_free: { args: ["pointer"], returns: "void" },
  X509_NAME_add_entry_by_txt: {
    args: ["pointer", "buffer", "i32", "buffer", "i32", "i32", "i32"],
    returns: "i32",
  },
  X509_REQ_add_extensions: { args: ["pointer", "pointer"], returns: "i32" },
  X509_REQ_free: { args: ["pointer"], returns: "void" },
  X509_REQ_new: { args: [], returns: "pointer" },
  X509_REQ_set_pubkey: { args: ["pointer", "pointer"], returns: "i32" },
  X509_REQ_sign: { args: ["pointer", "pointer", "pointer"], returns: "i32" },
  X509_add_ext: { args: ["pointer", "pointer", "i32"], returns: "i32" },
  X509_get_issuer_name: { args: ["pointer"], returns: "pointer" },
  X509_get_serialNumber: { args: ["pointer"], returns: "pointer" },
  X509_get_subject_name: { args: ["pointer"], returns: "pointer" },
  X509_getm_notAfter: { args: ["pointer"], returns: "pointer" },
  X509_getm_notBefore: { args: ["pointer"], returns: "pointer" },
  X509_gmtime_adj: { args: ["pointer", "i32"], returns: "pointer" },
  X509_new: { args: [], returns: "pointer" },
  X509_set_pubkey: { args: ["pointer", "pointer"], returns: "i32" },
  X509_set_version: { args: ["pointer", "i32"], returns: "i32" },
  X509_sign: { args: ["pointer", "pointer", "pointer"], returns: "i32" },
} as const satisfies Record<string, SymbolSpec>;

function open<const S extends Record<string, SymbolSpec>>(file: string, symbols: S): Library<S> {
  try {
    return runtime.open(file, symbols);
  } catch (cause) {
    throw new Error(
      `cannot load ${file}, which ambit uses for mutual TLS: install OpenSSL 3 ` +
        `(Debian and Ubuntu: apt-get install libssl3; Fedora and RHEL: dnf install openssl-libs; Alpine is not supported)`,
      { cause },
    );
  }
}

export const crypto = open("libcrypto.so.3", cryptoSymbols);
export const ssl = open("libssl.so.3", sslSymbols);

const decoder = new TextDecoder();
/** The longest C string read from OpenSSL: reasons and version texts are far shorter. */
const TEXT_BYTES = 256;
const errorText = new Uint8Array(TEXT_BYTES);

const ERR_LIB_SSL = 20;
/** Reasons from here on are alerts that the peer sent, by their number (RFC 8446 section 6). */
const ALERT_REASONS = 1000;
/** Alerts by which a peer says what it thinks of our certificate: bad_certificate to unknown_ca, access_denied, certificate_required. */
const CERTIFICATE_ALERTS: readonly number[] = [42, 43, 44, 45, 46, 48, 49, 116];

/** Takes the whole error queue of this thread and gives its first entry as text, or "" when it is empty. */
export function takeErrors(): string {
  const first = crypto.ERR_get_error();
  if (first === 0n || Number(first) === 0) return "";
  crypto.ERR_error_string_n(BigInt(first), errorText, TEXT_BYTES);
  crypto.ERR_clear_error();
  const text = decoder.decode(errorText.subarray(0, errorText.indexOf(0)));
  return describeAlert(Number(first), text) ?? text;
}

/** An alert is the peer's word, not a fault of ours: OpenSSL's text does not say whose it is. */
function describeAlert(code: number, text: string): string | undefined {
  const alert = (code % 0x80_0000) - ALERT_REASONS;
  if (Math.floor(code / 0x80_0000) % 0x100 !== ERR_LIB_SSL || alert < 0 || alert > 255) return undefined;
  const name = text.slice(text.lastIndexOf(":") + 1).replace(/^.*alert /, "");
  return CERTIFICATE_ALERTS.includes(alert)
    ? `the peer did not accept our certificate (TLS alert ${alert}: ${name})`
    : `the peer ended the connection (TLS alert ${alert}: ${name})`;
}

/** Why a chain was refused, in OpenSSL's words, for an `X509_V_ERR_*` number. */
export function verifyErrorText(code: number): string {
  const pointer = crypto.X509_verify_cert_error_string(code);
  return pointer === null ? `verify error ${code}` : readText(pointer);
}

/** The version text of the loaded library. */
export function opensslVersion(): string {
  const pointer = crypto.OpenSSL_version(0);
  return pointer === null ? "unknown" : readText(pointer);
}

/** Reads a C string byte by byte: its length is not known, and reading past its end may touch unmapped memory. */
export function readText(pointer: Parameters<typeof runtime.view>[0]): string {
  const bytes: number[] = [];
  for (let i = 0; i < TEXT_BYTES; i++) {
    const byte = runtime.view(pointer, i, 1)[0];
    if (byte === 0) break;
    bytes.push(byte);
  }
  return decoder.decode(new Uint8Array(bytes));
}

const encoder = new TextEncoder();
/** The text being read: OpenSSL knows its address only, so a reference is kept here until it is done. */
let reading: Uint8Array | undefined;

/** Runs `read` over a PEM text as OpenSSL reads it. Throws when there is no memory. */
export function withPem<T>(pem: string, read: (bio: Pointer) => T): T {
  const bytes = encoder.encode(pem);
  const bio = crypto.BIO_new_mem_buf(bytes, bytes.length);
  if (bio === null) throw new Error(`OpenSSL cannot allocate a BIO: ${takeErrors()}`);
  reading = bytes;
  try {
    return read(bio);
  } finally {
    crypto.BIO_free(bio);
    if (reading === bytes) reading = undefined;
  }
}
