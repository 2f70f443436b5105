/** Whether a certificate is for the server we meant: the address's host or, beside it, the configured second name. */
import { checkServerIdentity, type PeerCertificate } from "node:tls";

/**
 * A check for `tls.connect`, of the first name that fits or the reason against the host's. Only subject alternative names count: the
 * runtimes would fall back to the subject's common name, which rustls does not.
 */
export function serverNameCheck(
  host: string,
  altHostname: string | undefined,
): (hostname: string, certificate: PeerCertificate) => Error | undefined {
  return (_hostname, certificate) => {
    if (!certificate.subjectaltname) {
      return Object.assign(new Error("it has no subject alternative names"), { code: "ERR_TLS_CERT_ALTNAME_INVALID" });
    }
    const problem = checkServerIdentity(host, certificate);
    if (problem === undefined || altHostname === undefined) return problem;
    return checkServerIdentity(altHostname, certificate) === undefined ? undefined : problem;
  };
}
