/** Fuzz target of what anybody on the node may post to the agent's log socket. */
import assert from "node:assert/strict";
import { parseLogBody } from "../../../src/cni/agent/log_server.ts";
import { formatPlain, formatTime } from "../../../src/telemetry/log_line.ts";

const decoder = new TextDecoder();

function fuzzLogBody(bytes: Uint8Array): void {
  for (const { level, timeMs, message, fields } of parseLogBody(decoder.decode(bytes)) ?? []) {
    const line = formatPlain(formatTime(timeMs), level, "cni-plugin", message, fields);
    assert.equal(line.indexOf("\n"), line.length - 1, "one line each");
    // deno-lint-ignore no-control-regex
    assert.ok(!/[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]/.test(line), JSON.stringify(line));
    assert.match(line, /^[-+0-9T:.]+Z\t(debug|info|warn|error)\tcni-plugin\t/);
  }
}

export const targets = [{ name: "cni log", corpusDir: "tests/corpus/cni_log", target: fuzzLogBody }];
