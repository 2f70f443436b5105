/** gRPC over one session, by connect. */
import type { Transport } from "@connectrpc/connect";
import { createNodeHttpClient } from "@connectrpc/connect-node";
import type { UniversalClientFn } from "@connectrpc/connect/protocol";
import { createTransport as createGrpcTransport } from "@connectrpc/connect/protocol-grpc";
import type { Session } from "./session.ts";

/** ztunnel's limit of a decoded message. */
export const MAX_MESSAGE_BYTES = 200 * 1024 * 1024;

export interface TransportOptions {
  /** Changes the bytes that come, before connect sees messages in them. */
  readonly transform?: (body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
}

export function createTransport(address: string, session: Session, { transform }: TransportOptions = {}): Transport {
  const client = createNodeHttpClient({ httpVersion: "2", sessionProvider: () => session });
  const httpClient: UniversalClientFn = transform === undefined ? client : async (request) => {
    const response = await client(request);
    return { ...response, body: transform(response.body) };
  };
  return createGrpcTransport({
    baseUrl: address,
    httpClient,
    useBinaryFormat: true,
    binaryOptions: { readUnknownFields: false },
    interceptors: [],
    // istiod does not compress, and what is not offered cannot be a bomb.
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: 0,
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
  });
}
