/** Fuzz target of the file of revocation lists: what is in force is what OpenSSL read, or the file is refused. */
import assert from "node:assert/strict";
import { splitRevocationLists } from "../../src/identity/crl_file.ts";
import { RevocationList } from "../../src/platform/revocations.ts";

function fuzzCrlFile(bytes: Uint8Array): void {
  let lists: string[];
  try {
    lists = splitRevocationLists(bytes);
  } catch (error) {
    assert.match((error as Error).message, /^revocation lists: /);
    return;
  }
  assert.ok(lists.length > 0 || new TextDecoder().decode(bytes).trim() === "", "nothing is passed over in silence");
  try {
    const list = new RevocationList(lists);
    assert.equal(list.size, lists.length);
    assert.ok(list.revoked >= 0);
    list.free();
  } catch (error) {
    assert.match((error as Error).message, /^(revocation lists|certificates): /);
  }
}

export const targets = [
  { name: "crl file", corpusDir: "tests/corpus/crl_file", target: fuzzCrlFile, maxBytes: 8192 },
];
