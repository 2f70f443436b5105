import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest, UsageError } from "../../src/cli/errors.ts";
import {
  boolean,
  choice,
  duration,
  integer,
  optionalText,
  parseArguments,
  prefixed,
  resolveOptions,
} from "../../src/cli/options.ts";

const table = {
  mode: choice({ env: "THE_MODE", flag: "mode" }, ["one", "two"], "one", "Mode."),
  count: integer({ env: ["FIRST_COUNT", "COUNT"], flag: "count" }, 5, 1, 10, "Count."),
  on: boolean({ env: "ON" }, true, "On."),
  wait: duration({ env: "WAIT_TIME", flagAliases: ["waitTime"] }, 5000, "Wait."),
  name: optionalText({ flag: "name" }, "Name."),
  headers: prefixed("header", "HEADER_", "NAME=VALUE", "Headers.", (text) => text.toLowerCase()),
};

function resolve(argv: string[], env: Record<string, string> = {}) {
  return resolveOptions(table, parseArguments(argv, table), env);
}

function usage(argv: string[], env: Record<string, string> = {}): string {
  try {
    resolve(argv, env);
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    return error.message;
  }
  return assert.fail("no error");
}

test("options: a flag wins over its variable, a variable over the default", () => {
  assert.deepEqual({ ...resolve([]) }, { mode: "one", count: 5, on: true, wait: 5000, name: undefined, headers: [] });
  assert.equal(resolve([], { COUNT: "3" }).count, 3);
  assert.equal(resolve([], { COUNT: "3", FIRST_COUNT: "4" }).count, 4);
  assert.equal(resolve(["--count=7"], { COUNT: "3", FIRST_COUNT: "4" }).count, 7);
  assert.equal(resolve(["--count", "7", "--count", "8"]).count, 8);
  assert.equal(resolve(["--waitTime=300ms"]).wait, 300);
});

test("options: a boolean flag stands alone or takes true or false", () => {
  assert.equal(resolve(["--on"], { ON: "false" }).on, true);
  assert.equal(resolve(["--on", "false"]).on, false);
  assert.equal(resolve(["--on=false"]).on, false);
  assert.deepEqual(parseArguments(["--on", "file"], table).positionals, ["file"]);
});

test("options: prefixed variables and repeated flags become pairs, flags last", () => {
  assert.deepEqual(
    resolve(["--header", "B=x=y", "--header=C="], { HEADER_A: "1", HEADER_B: "2" }).headers,
    [["a", "1"], ["b", "x=y"], ["c", ""]],
  );
});

test("options: an error names the flag or variable, the value and what is allowed", () => {
  assert.equal(usage(["--mode=three"]), 'flag --mode: "three" must be one or two');
  assert.equal(usage([], { THE_MODE: "" }), 'environment variable THE_MODE: "" must be one or two');
  assert.equal(
    usage([], { FIRST_COUNT: "x" }),
    'environment variable FIRST_COUNT: "x" must be a whole number from 1 to 10',
  );
  assert.equal(usage(["--on=yes"]), 'flag --on: "yes" must be true or false');
  assert.equal(usage(["--wait-time", "5"]), 'flag --wait-time: "5" must be a duration such as 300ms, 10s or 5m');
  assert.equal(usage(["--count"]), "flag --count needs a value: --count=N");
  assert.equal(usage(["--header", "x"]), 'flag --header="x": must be NAME=VALUE');
});

test("options: an unknown flag names the nearest known one", () => {
  assert.equal(usage(["--cuont=3"]), 'unknown flag "--cuont": did you mean --count?');
  assert.equal(usage(["--zzzzzzzzzz"]), 'unknown flag "--zzzzzzzzzz": see --help for the flags there are');
  assert.equal(usage(["-x"]), 'unknown flag "-x": see --help for the flags there are');
  assert.equal(usage(["---count=1"]), 'unknown flag "---count": did you mean --count?');
});

test("options: tolerated unknown flags take their value with them", () => {
  const parsed = parseArguments(["--odd", "value", "--count", "2", "--odd2=x", "--odd3"], table, {
    tolerateUnknown: true,
  });
  assert.deepEqual(parsed.ignored, ["--odd", "--odd2=x", "--odd3"]);
  assert.deepEqual(parsed.positionals, []);
  assert.equal(resolveOptions(table, parsed, {}).count, 2);
});

test("options: -- ends the flags, --help is seen anywhere", () => {
  const parsed = parseArguments(["--help", "a", "--", "--count"], table);
  assert.equal(parsed.helpWanted, true);
  assert.deepEqual(parsed.positionals, ["a", "--count"]);
});

test("options: control characters of a bad value are escaped", () => {
  assert.equal(usage(["--mode=\x1b[31m\n"]), 'flag --mode: "\\u001b[31m\\n" must be one or two');
});

test("nearest: suggests near names only", () => {
  assert.equal(nearest("ztunel", ["local", "ztunnel"]), "ztunnel");
  assert.equal(nearest("waypoints", ["local", "waypoint"]), "waypoint");
  assert.equal(nearest("kubernetes", ["local", "waypoint"]), undefined);
});
