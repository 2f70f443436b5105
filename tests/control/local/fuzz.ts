/** Fuzz targets of local mode: the control channel's lines, and the mesh file. */
import assert from "node:assert/strict";
import { AddressBook } from "../../../src/control/local/addresses.ts";
import {
  ChannelProtocolError,
  decodeChildMessage,
  decodeParentMessage,
  encodeMessage,
} from "../../../src/control/local/channel_messages.ts";
import { LineReader } from "../../../src/control/local/line_reader.ts";
import { readMeshFile } from "../../../src/control/local/mesh_file.ts";
import type { Random } from "../../support/fuzz.ts";

const LIMIT = 4096;

/** Whatever comes, in whatever pieces: the same lines, and for each a message that reads back as itself, or a protocol error. */
function fuzzChannel(bytes: Uint8Array, random: Random): void {
  const whole = readLines([bytes]);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + random.below(64));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  assert.deepEqual(readLines(pieces), whole);
  for (const line of whole) {
    for (const decode of [decodeChildMessage, decodeParentMessage]) {
      try {
        const message = decode(line);
        assert.deepEqual(decode(encodeMessage(message)), message);
      } catch (error) {
        if (!(error instanceof ChannelProtocolError)) throw error;
      }
    }
  }
}

function readLines(pieces: readonly Uint8Array[]): string[] {
  const reader = new LineReader(LIMIT);
  const lines: string[] = [];
  try {
    for (const piece of pieces) reader.push(piece, (line) => lines.push(line));
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
  }
  return lines;
}

const decoder = new TextDecoder();

/** A mesh that can be brought up, or problems with places in the text. */
function fuzzMeshFile(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  const result = readMeshFile(text, new AddressBook());
  if (result.ok) {
    const { nodes, pods } = result.mesh;
    const addresses = [...nodes, ...pods].flatMap((one) => one.addresses);
    assert.equal(new Set(addresses).size, addresses.length);
    for (const pod of pods) {
      assert.ok(nodes.some((node) => node.name === pod.node));
      // They become names of files and devices.
      assert.match(`${pod.namespace}${pod.name}`, /^[-a-z0-9.]+$/);
    }
    return;
  }
  const lines = text.split(/\r\n|\n|\r/).length;
  assert.ok(result.problems.length > 0);
  for (const { line, column } of result.problems) {
    assert.ok(line >= 1 && line <= lines + 1 && column >= 1, `${line}:${column}`);
  }
}

export const targets = [
  { name: "local channel", corpusDir: "tests/corpus/local_channel", target: fuzzChannel },
  { name: "mesh file", corpusDir: "tests/corpus/mesh_file", target: fuzzMeshFile, maxBytes: 4096 },
];
