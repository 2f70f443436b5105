/** The mesh CA in istiod. */
export { createCaClient } from "./client.ts";
export type { CaClient, CaClientOptions } from "./client.ts";
export { readCertificateChain } from "./certificate_chain.ts";
export type { IssuedCertificate } from "./certificate_chain.ts";
