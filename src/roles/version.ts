/** `ambit version`. */
import { buildInfo, formatBuildInfo } from "../telemetry/build_info.ts";

export function versionText(): string {
  return formatBuildInfo(buildInfo()) + "\n";
}
