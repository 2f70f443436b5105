/** A pod's network namespace as it was announced: a file's path, or a descriptor that the node agent sent. */
import { fileIdentity } from "../platform/netns.ts";
import { closeDescriptor } from "../platform/socket.ts";

export type PodNamespace =
  | { readonly kind: "path"; readonly path: string }
  /** `identity` (device and inode) tells it from every other. Whoever holds the PodNamespace owns the descriptor. */
  | { readonly kind: "fd"; readonly fd: number; readonly identity: string };

/** Takes over a received descriptor. Throws, with the descriptor closed, when it cannot be looked at. */
export function receivedNamespace(fd: number): PodNamespace {
  const identity = fileIdentity(fd);
  if (identity !== undefined) return { kind: "fd", fd, identity };
  closeDescriptor(fd);
  throw new Error("the descriptor of the network namespace cannot be read");
}

/** Undefined stands for the process' own namespace. */
export function sameNamespace(a: PodNamespace | undefined, b: PodNamespace | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.kind === "path") return b.kind === "path" && a.path === b.path;
  return b.kind === "fd" && a.identity === b.identity;
}

export function closeNamespace(namespace: PodNamespace | undefined): void {
  if (namespace?.kind === "fd") closeDescriptor(namespace.fd);
}
