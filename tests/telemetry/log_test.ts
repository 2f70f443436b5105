import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, createLog, createWallClock } from "../../src/telemetry/log.ts";
import { LogFilter, parseLogDirectives } from "../../src/telemetry/log_filter.ts";
import { formatTime } from "../../src/telemetry/log_line.ts";

/** 2026-05-04T09:59:05.028750Z */
const NOW = Date.UTC(2026, 4, 4, 9, 59, 5) + 28.75;

function open(filter: string, format: "plain" | "json" = "plain") {
  const lines: string[] = [];
  const log = createLog({ filter, format, sink: (line) => lines.push(line), nowMs: () => NOW });
  return { log, lines };
}

test("log: a plain line is time, level, target, message and fields, by tabs", () => {
  const { log, lines } = open("info");
  log.log("info", "ztunnel::proxy::inbound", "listener established", {
    address: bare("[::]:15008"),
    component: 'in"bound',
    count: 3,
    absent: undefined,
    transparent: true,
  });
  log.log("warn", "access", "no fields");
  assert.deepEqual(lines, [
    "2026-05-04T09:59:05.028750Z\tinfo\tproxy::inbound\tlistener established\t" +
    'address=[::]:15008 component="in\\"bound" count=3 transparent=true\n',
    "2026-05-04T09:59:05.028750Z\twarn\taccess\tno fields\n",
  ]);
});

test("log: a JSON line has level, time, scope, message and fields, in this order", () => {
  const { log, lines } = open("info", "json");
  log.log("error", "ztunnel::xds", 'a "b"', { address: bare("1.2.3.4:5"), n: 3, big: 7n, odd: NaN });
  assert.equal(
    lines[0],
    '{"level":"error","time":"2026-05-04T09:59:05.028750Z","scope":"ztunnel::xds","message":"a \\"b\\"",' +
      '"address":"1.2.3.4:5","n":3,"big":7,"odd":"NaN"}\n',
  );
  assert.equal(JSON.parse(lines[0]).message, 'a "b"');
});

test("log: no value and no message can forge a line or a field", () => {
  for (const format of ["plain", "json"] as const) {
    const { log, lines } = open("info", format);
    const evil = "x\n2026\tinfo\taccess\tforged\x1b[2J\x7f\x9b\u2028 a=b";
    log.log("info", "t", evil, { quoted: evil, bare: bare(evil), spaced: bare("a b=c") });
    assert.equal(lines.length, 1);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(lines[0].slice(0, -1), /[\n\x1b\x7f\x9b\u2028]/);
    if (format === "plain") {
      assert.equal(lines[0].split("\t").length, 5);
      assert.match(lines[0], / spaced="a b=c"\n$/);
    }
  }
});

test("log: the filter decides by the longest matching target", () => {
  const { log, lines } = open("warn,ztunnel::proxy=info,ztunnel::proxy::inbound=off,access=debug");
  const wanted: [Parameters<typeof log.log>[0], string, boolean][] = [
    ["warn", "ztunnel::xds", true],
    ["info", "ztunnel::xds", false],
    ["info", "ztunnel::proxy::outbound", true],
    ["error", "ztunnel::proxy::inbound", false],
    ["debug", "access", true],
    ["trace", "access", false],
    ["error", "hickory_server::server", false],
  ];
  for (const [level, target, expected] of wanted) {
    lines.length = 0;
    log.log(level, target, "m");
    assert.equal(lines.length === 1, expected, `${level} ${target}`);
    assert.equal(log.enabledFor(level, target), expected, `${level} ${target}`);
  }
  assert.equal(log.enabled("debug"), true);
  assert.equal(log.enabled("trace"), false);
});

test("log: directives are added and reset at run time", () => {
  const { log } = open("");
  assert.equal(log.directives, "hickory_server::server=off,info");
  log.change("debug");
  assert.equal(log.directives, "hickory_server::server=off,debug");
  log.change("access=trace,info");
  assert.equal(log.directives, "hickory_server::server=off,access=trace,info");
  assert.throws(() => log.change("loud"), /must be levels/);
  assert.throws(() => log.change("access"), /must be levels/);
  assert.equal(log.directives, "hickory_server::server=off,access=trace,info");
  log.change("warn", { reset: true });
  assert.equal(log.directives, "hickory_server::server=off,warn");
  log.change("", { reset: true });
  assert.equal(log.directives, "hickory_server::server=off,info");
});

test("log: another log adopts the directives as they are shown", () => {
  const main = open("info,access=off").log;
  main.change("xds=trace");
  const worker = open("info").log;
  worker.adopt(main.directives);
  assert.equal(worker.directives, main.directives);
  assert.equal(worker.enabledFor("error", "access"), false);
});

test("log filter: reads RUST_LOG, refuses what it does not understand", () => {
  assert.deepEqual(parseLogDirectives("INFO,a::b=Debug,,c", { bareTargets: true }), [
    { target: "", level: "info" },
    { target: "a::b", level: "debug" },
    { target: "c", level: "trace" },
  ]);
  for (
    const text of [
      "",
      ",",
      "a=",
      "=info",
      "a=loud",
      "a b",
      "a[span]=info",
      "a=b=c",
      "__proto__=x",
      "constructor=toString",
    ]
  ) {
    assert.throws(() => parseLogDirectives(text, { bareTargets: true }), /must be levels/, text);
  }
  assert.throws(() => parseLogDirectives("info,".repeat(1000), { bareTargets: true }));
});

test("log filter: without a general directive other targets are off", () => {
  const filter = LogFilter.parse("access=debug");
  assert.equal(filter.rankOf("xds"), 0);
  assert.equal(filter.rankOf("access"), 4);
});

test("time: has microseconds and stays in its second", () => {
  assert.equal(formatTime(0), "1970-01-01T00:00:00.000000Z");
  assert.equal(formatTime(999.9999), "1970-01-01T00:00:00.999999Z");
  assert.equal(formatTime(1000), "1970-01-01T00:00:01.000000Z");
});

test("wall clock: has the monotonic clock's resolution and follows a step of the wall clock", () => {
  let wall = 1000;
  let monotonic = 5;
  const clock = createWallClock(() => wall, () => monotonic);
  monotonic += 0.25;
  assert.equal(clock(), 1000.25);
  wall += 3_600_000;
  monotonic += 1;
  assert.equal(clock(), 3_601_000);
  monotonic += 0.5;
  assert.equal(clock(), 3_601_000.5);
});
