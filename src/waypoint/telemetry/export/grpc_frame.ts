/** A message as gRPC frames it: not compressed, with its length before it. */
const HEAD_BYTES = 5;

export function grpcFrame(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + message.length);
  new DataView(bytes.buffer).setUint32(1, message.length);
  bytes.set(message, HEAD_BYTES);
  return bytes;
}
