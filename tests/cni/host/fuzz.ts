/** Fuzz target of what `ipset` prints, whose comments may be anybody's. */
import assert from "node:assert/strict";
import { families } from "../../../src/cni/host/backend.ts";
import { parseSave } from "../../../src/cni/host/ipset.ts";
import { canonicalIp } from "../../../src/mesh/ip.ts";

const decoder = new TextDecoder("latin1");

export const targets = [
  {
    name: "ipset_save",
    corpusDir: "tests/corpus/ipset_save",
    target(bytes: Uint8Array): void {
      const text = decoder.decode(bytes);
      for (const family of families("192.0.2.1", "2001:db8::1", true)) {
        const { usable, entries } = parseSave(text, family);
        if (usable) assert.match(text, /hash:ip/);
        for (const [ip, comment] of entries) {
          assert.equal(canonicalIp(ip), ip);
          assert.ok(text.includes(comment));
        }
      }
    },
  },
];
