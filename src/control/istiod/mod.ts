/** How istiod is reached, by xDS and the CA alike: TLS, credentials, keepalive (reference ztunnel, section 3.1). */
export { callHeaders } from "./call_headers.ts";
export { CONNECTION_LIMITS } from "./endpoint.ts";
export type { ConnectionLimits, IstiodEndpoint } from "./endpoint.ts";
export { IstiodError, textOf, toIstiodError } from "./errors.ts";
export type { IstiodErrorKind } from "./errors.ts";
export { openSession, Session } from "./session.ts";
export { tlsOptions } from "./tls_options.ts";
export { createTransport, MAX_MESSAGE_BYTES } from "./transport.ts";
export { readTrustRoots, splitPem } from "./trust_roots.ts";
export type { TrustRoots } from "./trust_roots.ts";
