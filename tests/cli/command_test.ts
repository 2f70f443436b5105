import assert from "node:assert/strict";
import { test } from "node:test";
import { selectCommand } from "../../src/cli/command.ts";
import type { Command } from "../../src/cli/command.ts";
import { UsageError } from "../../src/cli/errors.ts";

function select(argv: string[], programName = "ambit", cniCommand?: string): Command {
  return selectCommand({ argv, programName, cniCommand });
}

function role(name: string, rest: string[] = [], tolerateUnknown = false): Command {
  return { kind: "role", role: name, rest, tolerateUnknown } as Command;
}

test("command: roles by subcommand, by --role and in Istio's forms", () => {
  const table: [string[], Command][] = [
    [["ztunnel", "--x"], role("ztunnel", ["--x"])],
    [["--role=ztunnel", "--x"], role("ztunnel", ["--x"])],
    [["--x", "--role", "cni", "--y"], role("cni", ["--x", "--y"])],
    [["proxy", "ztunnel"], role("ztunnel")],
    [["proxy"], role("ztunnel")],
    [["proxy", "--x"], role("ztunnel", ["--x"])],
    [["proxy", "waypoint", "--domain", "d"], role("waypoint", ["--domain", "d"], true)],
    [["install-cni", "--x"], role("cni", ["--x"])],
    [["cni"], role("cni")],
    [["local", "mesh.yaml"], role("local", ["mesh.yaml"])],
    [["local", "exec", "pod", "--", "ls"], { kind: "tool", tool: "local exec", rest: ["pod", "--", "ls"] }],
    [["echo", "--port", "1"], { kind: "tool", tool: "echo", rest: ["--port", "1"] }],
    [["help", "ztunnel"], role("ztunnel", ["--help"])],
    [["version"], { kind: "version" }],
    [["--version"], { kind: "version" }],
    [["--help"], { kind: "help" }],
    [["-h"], { kind: "help" }],
    [["help"], { kind: "help" }],
    [[], { kind: "usage" }],
  ];
  for (const [argv, expected] of table) assert.deepEqual(select(argv), expected, argv.join(" "));
});

test("command: the program's own name picks the role where Istio's images do so", () => {
  assert.deepEqual(select([], "istio-cni"), role("cni-plugin"));
  assert.deepEqual(select(["--log_as_json"], "install-cni"), role("cni", ["--log_as_json"]));
  assert.deepEqual(select([], "ztunnel"), role("ztunnel"));
  assert.deepEqual(select(["proxy", "ztunnel"], "ztunnel"), role("ztunnel"));
  assert.deepEqual(select(["version"], "ztunnel"), { kind: "version" });
});

test("command: CNI_COMMAND makes a call without arguments the plugin", () => {
  assert.deepEqual(select([], "ambit", "ADD"), role("cni-plugin"));
  assert.deepEqual(select(["ztunnel"], "ambit", "ADD"), role("ztunnel"));
  assert.deepEqual(select([], "ambit", ""), { kind: "usage" });
});

test("command: unknown commands and roles are named with the nearest known one", () => {
  const message = (argv: string[]) => {
    try {
      select(argv);
    } catch (error) {
      assert.ok(error instanceof UsageError);
      return error.message;
    }
    return assert.fail("no error");
  };
  assert.equal(message(["ztunel"]), 'unknown command "ztunel": did you mean ztunnel?');
  assert.match(message(["frobnicate"]), /^unknown command "frobnicate": the commands are ztunnel, /);
  assert.equal(message(["--role=x"]), 'flag --role: "x" must be one of ztunnel, cni, waypoint, local');
  assert.equal(message(["--role"]), 'flag --role: "" must be one of ztunnel, cni, waypoint, local');
  assert.match(message(["--log-level=info"]), /^no role: name one \(ztunnel, /);
  assert.equal(message(["proxy", "sidecar"]), 'unknown proxy "sidecar": must be ztunnel or waypoint');
});
