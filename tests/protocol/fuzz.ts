/** Fuzz target of the node agent's messages: any bytes, both ways. */
import assert from "node:assert/strict";
import {
  decodeHello,
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  ZDS_MESSAGE_BYTES,
  ZdsFormatError,
} from "../../src/protocol/zds.ts";

function attempt<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof ZdsFormatError) return undefined;
    throw error;
  }
}

export const targets = [
  {
    name: "zds",
    corpusDir: "tests/corpus/zds",
    maxBytes: ZDS_MESSAGE_BYTES,
    target(bytes: Uint8Array): void {
      attempt(() => decodeHello(bytes));
      const request = attempt(() => decodeRequest(bytes));
      if (request !== undefined) assert.deepEqual(decodeRequest(encodeRequest(request)), request);
      const response = attempt(() => ({ error: decodeResponse(bytes) }));
      if (response === undefined) return;
      const encoded = encodeResponse(response.error);
      assert.ok(encoded.length <= ZDS_MESSAGE_BYTES);
      const again = decodeResponse(encoded) ?? "";
      assert.ok((response.error ?? "").startsWith(again));
    },
  },
];
