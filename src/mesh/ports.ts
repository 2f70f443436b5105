/** Ports that are part of the mesh's protocol. */

/** Where a pod's proxy takes HBONE. */
export const HBONE_PORT = 15008;
