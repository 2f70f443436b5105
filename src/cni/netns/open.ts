/**
 * Opens the network namespace that the container runtime named to the plugin, reference cni.md section 3.4. The path is of the node; the
 * agent sees the node's files below a root of their own.
 *
 * Whoever reaches the plugin's socket chooses the path, so a file that is no network namespace is refused without being touched, and so
 * is the node's own namespace: rules for a pod in there cut the node off.
 */
import { join, normalize } from "node:path";
import { openNetworkNamespace } from "../../platform/namespace_file.ts";
import { fileIdentity } from "../../platform/netns.ts";
import { pathIdentity } from "../../platform/proc_files.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import { nodeIdentity } from "./discover.ts";

/**
 * The descriptor, which the caller owns. `hostRoot` is where the node's files are (`/host`; "" if they are this process' own),
 * `procRoot` its processes (`/host/proc`).
 * @throws Error that says which path and why not
 */
export function openReportedNetns(path: string, hostRoot: string, procRoot: string): number {
  const refuse = (reason: string) => new Error(`cannot use ${path} as a pod's network namespace: ${reason}`);
  if (!path.startsWith("/")) throw refuse("the path is not absolute");
  const opened = openNetworkNamespace(join(hostRoot === "" ? "/" : hostRoot, normalize(path)));
  if (typeof opened !== "number") throw refuse(opened.error);
  try {
    const identity = fileIdentity(opened);
    if (identity === nodeIdentity(procRoot)) throw refuse("it is the namespace of the node itself");
    if (identity === pathIdentity("/proc/self/ns/net")) throw refuse("it is the namespace of the node agent");
    return opened;
  } catch (error) {
    closeDescriptor(opened);
    throw error;
  }
}
