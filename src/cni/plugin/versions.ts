/** Versions of the CNI specification. */
import { CNI_ERROR, CniError } from "./cni_error.ts";

export const SUPPORTED_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = typeof SUPPORTED_VERSIONS[number];
export const LATEST_VERSION: CniVersion = "1.1.0";

export function isSupported(version: string): version is CniVersion {
  return SUPPORTED_VERSIONS.some((supported) => supported === version);
}

/** @throws CniError with code 1 */
export function requireSupported(version: string): asserts version is CniVersion {
  if (isSupported(version)) return;
  const supported = SUPPORTED_VERSIONS.map((name) => JSON.stringify(name)).join(" ");
  const details = `config is ${JSON.stringify(version)}, plugin supports [${supported}]`;
  throw new CniError(CNI_ERROR.incompatibleVersion, "incompatible CNI versions", details);
}

/**
 * Below zero when `a` is the older one. Missing parts count as 0.
 * @throws CniError with code 6 for text that is no version
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [parseVersion(a), parseVersion(b)];
  for (let i = 0; i < left.length; i++) {
    if (left[i] !== right[i]) return left[i] - right[i];
  }
  return 0;
}

function parseVersion(text: string): readonly [major: number, minor: number, patch: number] {
  const match = /^(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) throw new CniError(CNI_ERROR.decodingFailure, `invalid CNI version ${JSON.stringify(text)}`);
  return [Number(match[1]), Number(match[2] ?? 0), Number(match[3] ?? 0)];
}
