/** Fuzz targets of what discovery reads of processes, whose words are partly their own. */
import assert from "node:assert/strict";
import { CgroupFormatError, readCgroup } from "../../../src/cni/netns/cgroup.ts";
import { readFibTrie, readIfInet6 } from "../../../src/cni/netns/local_addresses.ts";
import { readStartTime } from "../../../src/cni/netns/proc_stat.ts";
import { canonicalIp, isIpv6 } from "../../../src/mesh/ip.ts";

const decoder = new TextDecoder("latin1");

export const targets = [
  {
    name: "cgroup",
    corpusDir: "tests/corpus/cgroup",
    target(bytes: Uint8Array): void {
      const text = decoder.decode(bytes);
      try {
        const owner = readCgroup(text);
        if (owner !== undefined) {
          assert.match(owner.podUid, /^$|^[0-9a-fA-F-]{32,36}$/);
          assert.ok(owner.containerId !== "" && text.includes(owner.containerId));
        }
      } catch (error) {
        if (!(error instanceof CgroupFormatError)) throw error;
      }
    },
  },
  {
    name: "proc_stat",
    corpusDir: "tests/corpus/proc_stat",
    target(bytes: Uint8Array): void {
      const start = readStartTime(decoder.decode(bytes));
      assert.ok(start === undefined || Number.isSafeInteger(start) && start >= 0);
    },
  },
  {
    name: "local_addresses",
    corpusDir: "tests/corpus/local_addresses",
    target(bytes: Uint8Array): void {
      const text = decoder.decode(bytes);
      const v4 = readFibTrie(text);
      for (const ip of v4) assert.ok(!isIpv6(ip) && canonicalIp(ip) === ip && text.includes(`|-- ${ip}`), ip);
      for (const ip of readIfInet6(text)) assert.equal(canonicalIp(ip), ip);
    },
  },
];
