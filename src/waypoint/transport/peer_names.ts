/**
 * Whether a server's certificate bears a name that is expected of it: Envoy's matching of subject alternative names. A DNS name that is asked for exactly
 * is also borne by a wildcard of one label (RFC 6125 section 6.4.3).
 */
import { canonicalIp } from "../../mesh/ip.ts";
import type { CertificateName } from "../../platform/certificates.ts";
import { compileText, lowerCase } from "../match/text.ts";
import type { UpstreamTlsSpec } from "../spec/mod.ts";

/** A text says why the names are not good enough. */
export type NameJudge = (names: readonly CertificateName[], serverName: string) => string | undefined;

const SHOWN = 3;

export function compileNames({ autoSan, sans }: Pick<UpstreamTlsSpec, "autoSan" | "sans">): NameJudge {
  const matchers = sans.map(({ type, match }) => {
    const test = compileText(match);
    const exact = match.kind === "exact" ? match.text : undefined;
    return (name: CertificateName): boolean => {
      if (type !== "any" && name.type !== type) return false;
      if (name.type === "dns" && exact !== undefined) return bearsDnsName(name.value, exact);
      return test(name.value);
    };
  });
  return (names, serverName) => {
    // As in Envoy the request's host comes before the names of the configuration.
    if (autoSan && serverName !== "") {
      return names.some((name) => bears(name, serverName)) ? undefined : refusal(names, serverName);
    }
    if (matchers.length === 0) return undefined;
    return names.some((name) => matchers.some((matches) => matches(name)))
      ? undefined
      : refusal(names, "any of those that are expected");
  };
}

function bears(name: CertificateName, host: string): boolean {
  const ip = canonicalIp(host);
  if (ip !== undefined) return name.type === "ip" && name.value === ip;
  return name.type === "dns" && bearsDnsName(name.value, host);
}

export function bearsDnsName(certified: string, host: string): boolean {
  const [pattern, name] = [lowerCase(certified), lowerCase(host)];
  if (pattern === name) return true;
  if (!pattern.startsWith("*.")) return false;
  const dot = name.indexOf(".");
  return dot > 0 && pattern.length > 2 && name.slice(dot) === pattern.slice(1);
}

function refusal(names: readonly CertificateName[], expected: string): string {
  const shown = names.slice(0, SHOWN).map(({ value }) => value).join(", ");
  return `the certificate's names (${shown || "none"}) do not match ${expected}`;
}
