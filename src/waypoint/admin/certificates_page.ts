/** `/certs` as envoy.admin.v3.Certificates, and how long the first of the certificates is still good. */
import { X509Certificate } from "node:crypto";
import type { SecretView } from "../agent/state.ts";

const DAY_MS = 24 * 3_600_000;
const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

interface Shown {
  readonly path: string;
  readonly serial_number: string;
  readonly subject_alt_names: readonly Readonly<Record<string, string>>[];
  /** A number as text: protobuf's JSON of uint64. */
  readonly days_until_expiration: string;
  readonly valid_from: string;
  readonly expiration_time: string;
}

export function certificatesJson(secrets: Iterable<SecretView>, nowMs: number): string {
  const views = [...secrets];
  const of = (kind: SecretView["kind"]) =>
    views.filter((view) => view.kind === kind).flatMap((view) => readAll(view).map((x) => show(x, nowMs)));
  const [roots, chain] = [of("trust"), of("certificate")];
  const certificates = roots.length + chain.length === 0 ? [] : [{ ca_cert: roots, cert_chain: chain }];
  return JSON.stringify({ certificates });
}

/** Infinity without a certificate. */
export function daysToExpiry(secrets: Iterable<SecretView>, nowMs: number): number {
  let days = Infinity;
  for (const view of secrets) {
    for (const { validTo } of readAll(view)) days = Math.min(days, (Date.parse(validTo) - nowMs) / DAY_MS);
  }
  return days;
}

/** Of the first certificate of this secret; undefined: there is none. */
export function secondsToExpiry(view: SecretView | undefined, nowMs: number): number | undefined {
  const ends = view === undefined ? [] : readAll(view).map(({ validTo }) => Date.parse(validTo));
  return ends.length === 0 ? undefined : (Math.min(...ends) - nowMs) / 1000;
}

/** What is no certificate was refused when it came; here it is only not shown. */
function readAll({ certificates }: SecretView): X509Certificate[] {
  return (certificates.match(PEM) ?? []).flatMap((pem) => {
    try {
      return [new X509Certificate(pem)];
    } catch {
      return [];
    }
  });
}

function show(certificate: X509Certificate, nowMs: number): Shown {
  const { serialNumber, subjectAltName = "", validFrom, validTo } = certificate;
  const names = subjectAltName.split(", ").flatMap((name) => {
    const found = /^(URI|DNS|IP Address):(.*)$/.exec(name);
    if (found === null) return [];
    return [{ [NAME_KINDS[found[1]]]: found[2] }];
  });
  return {
    path: "<inline>",
    serial_number: serialNumber.toLowerCase(),
    subject_alt_names: names,
    days_until_expiration: String(Math.max(0, Math.floor((Date.parse(validTo) - nowMs) / DAY_MS))),
    valid_from: new Date(Date.parse(validFrom)).toISOString(),
    expiration_time: new Date(Date.parse(validTo)).toISOString(),
  };
}

const NAME_KINDS: Readonly<Record<string, string>> = { URI: "uri", DNS: "dns", "IP Address": "ip_address" };
