/** Objects of Kubernetes in a mesh file: what is there to read them, and what ztunnels make of their policies. */
export { type KubeDocument, readKubeObjects } from "./read.ts";
export { ROOT_NAMESPACE, ztunnelPolicies, type ZtunnelPolicy } from "./ztunnel_policies.ts";
export type * from "./objects.ts";
