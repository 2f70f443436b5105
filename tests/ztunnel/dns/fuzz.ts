/** Fuzz targets of the DNS proxy: the system's files, and what a client may send. */
import assert from "node:assert/strict";
import { canonicalIp } from "../../../src/mesh/ip.ts";
import { decodeMessage, parseName } from "../../../src/protocol/dns/mod.ts";
import { encodeResponse, parseRequest, respondEmpty } from "../../../src/ztunnel/dns/request.ts";
import { parseHosts, parseResolvConf } from "../../../src/ztunnel/dns/system_files.ts";

const decoder = new TextDecoder();

function fuzzFiles(input: Uint8Array): void {
  const text = decoder.decode(input);
  const { servers, search, ndots } = parseResolvConf(text);
  for (const ip of servers) assert.equal(canonicalIp(ip), ip);
  for (const name of search) assert.equal(parseName(name), name);
  assert.ok(servers.length <= 3 && search.length <= 32 && ndots >= 0 && ndots <= 15);
  for (const [name, ips] of parseHosts(text)) {
    assert.equal(parseName(name), name);
    for (const ip of ips) assert.equal(canonicalIp(ip), ip);
  }
}

/** Whatever comes, what is said to it is a message, an answer, and to the same question. */
function fuzzRequest(input: Uint8Array): void {
  const parsed = parseRequest(input);
  if (parsed.kind === "ignore") return assert.ok(input.length < 12);
  const { response, request } = parsed.kind === "reject"
    ? { response: parsed.response, request: undefined }
    : { response: respondEmpty(parsed.request, 0), request: parsed.request };
  for (const udp of [true, false]) {
    const bytes = encodeResponse(response, request, udp);
    assert.ok(!udp || bytes.length <= 4096);
    const answer = decodeMessage(bytes)!;
    assert.ok(answer.response);
    assert.equal(answer.id, input[0] << 8 | input[1]);
    if (parsed.kind === "question") assert.deepEqual(answer.questions, [parsed.question]);
  }
}

export const targets = [
  { name: "dns files", corpusDir: "tests/corpus/dns_files", target: fuzzFiles, maxBytes: 1024 },
  { name: "dns request", corpusDir: "tests/corpus/dns_message", target: fuzzRequest, maxBytes: 1024 },
];
