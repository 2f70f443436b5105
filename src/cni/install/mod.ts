/** Installs the CNI plugin on the node, keeps it installed, and takes it away: reference cni.md 1.6 and 5.4. */
export { createInstaller } from "./installer.ts";
export { decideShutdown, type ShutdownDecision, type ShutdownOptions } from "./shutdown.ts";
export type { Installer, InstallerOptions, InstallResult } from "./types.ts";
