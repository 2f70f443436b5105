/** The DNS on the wire: a message codec and TCP's framing, sans-io. */
export * from "./constants.ts";
export * from "./message.ts";
export * from "./name.ts";
export * from "./data.ts";
export { decodeHeader, decodeMessage } from "./decode.ts";
export { encodeMessage } from "./encode.ts";
export { frame, FrameReader } from "./tcp_framing.ts";
