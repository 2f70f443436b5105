import assert from "node:assert/strict";
import { test } from "node:test";
import { main, plan } from "../../src/cli/main.ts";
import type { MainInput } from "../../src/cli/main.ts";
import { localOptions } from "../../src/cli/role_options.ts";
import { waypointOptions } from "../../src/cli/waypoint_options.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";

function input(argv: string[], env: Record<string, string> = {}, programName = "ambit") {
  const output = { out: "", err: "" };
  const value: MainInput = {
    argv,
    env,
    programName,
    host: {
      cpus: 4,
      exists: () => false,
      readText: () => undefined,
      loadYaml: () => Promise.reject(new Error("yaml")),
    },
    out: (text) => output.out += text,
    err: (text) => output.err += text,
  };
  return { value, output };
}

async function run(argv: string[], env?: Record<string, string>, programName?: string) {
  const { value, output } = input(argv, env, programName);
  return { code: await main(value), ...output };
}

test("main: --help of a role lists every flag with its variable and default", async () => {
  for (
    const [role, table] of [["ztunnel", ztunnelOptions], ["local", localOptions], [
      "waypoint",
      waypointOptions,
    ]] as const
  ) {
    const { code, out } = await run([role, "--help"]);
    assert.equal(code, 0);
    for (const option of Object.values(table)) {
      assert.ok(out.includes(`  --${option.flag}=`), option.flag);
      if ("envPrefix" in option) assert.ok(out.includes(`env ${option.envPrefix}<NAME>`), option.flag);
      else {
        for (const name of option.env) assert.ok(out.includes(name), name);
        const flat = out.replaceAll(/\s+/g, " ");
        assert.ok(
          flat.includes(option.fallbackText === "" ? "no default" : `default ${option.fallbackText}`),
          option.flag,
        );
      }
    }
  }
});

test("main: wrong usage ends with 2 and one line that says what is wrong", async () => {
  for (
    const [argv, env, text] of [
      [["ztunnel", "--proxy-mod=x"], {}, 'ambit: unknown flag "--proxy-mod": did you mean --proxy-mode?\n'],
      [["ztunnel", "extra"], {}, 'ambit: unexpected argument "extra": ztunnel takes only flags\n'],
      [["local", "a", "b"], {}, 'ambit: unexpected argument "b": local takes one file\n'],
      [["ztunnel"], { IPV6_ENABLED: "1" }, 'ambit: environment variable IPV6_ENABLED: "1" must be true or false\n'],
      [["nothing"], {}, undefined],
    ] as const
  ) {
    const { code, out, err } = await run([...argv], env);
    assert.equal(code, 2);
    assert.equal(out, "");
    if (text !== undefined) assert.equal(err, text);
    assert.equal(err.split("\n").length, 2);
  }
});

test("main: no arguments show the overview on stderr and end with 2", async () => {
  const { code, out, err } = await run([]);
  assert.equal(code, 2);
  assert.equal(out, "");
  assert.match(err, /Usage: ambit ROLE/);
});

test("main: version and --help end with 0", async () => {
  assert.match((await run(["version"])).out, /^ambit [0-9]+\.[0-9]+\.[0-9]+ \(.*linux\/(x64|arm64)\)\n$/);
  assert.match((await run(["--help"])).out, /local \[mesh\.yaml\]/);
});

const POD = { POD_NAME: "w-0", POD_NAMESPACE: "d", INSTANCE_IP: "10.0.0.7" };

test("main: a waypoint that does not know its pod says what is missing", async () => {
  const { code, err } = await run(["waypoint"], { ...POD, POD_NAME: "" });
  assert.equal(code, 2);
  assert.match(err, /^ambit: POD_NAME is not set: it is the own pod's name/);
});

test("main: Istio's own form of the waypoint may carry Envoy's flags", async () => {
  const argv = "proxy waypoint --domain d.svc --serviceCluster sa.d --proxyLogLevel warning --newFlag x --log_as_json";
  const planned = await plan(input(argv.split(" "), POD).value);
  assert.ok(planned.kind === "run" && planned.config.role === "waypoint");
  const { domain, serviceCluster, log } = planned.config;
  assert.deepEqual({ domain, serviceCluster, log }, {
    domain: "d.svc",
    serviceCluster: "sa.d",
    log: { filter: "info", format: "json" },
  });
  assert.deepEqual(planned.notes, ['ignoring unknown flag "--newFlag"']);
});

test("main: local takes a file and the log of every role is configurable", async () => {
  const planned = await plan(input(["local", "m.yaml", "--workers=50%", "--log-level", "debug"]).value);
  assert.ok(planned.kind === "run");
  assert.deepEqual(planned.config, {
    role: "local",
    meshFile: "m.yaml",
    stateDir: undefined,
    workers: 2,
    dnsCapture: false,
    cni: false,
    log: { filter: "debug", format: "plain" },
  });
  const cni = await plan(input(["install-cni", "--log_output_level=default:warn,cni-plugin:debug"]).value);
  assert.ok(cni.kind === "run" && cni.config.role === "cni");
  assert.equal(cni.config.log.filter, "warn,cni-plugin=debug");
});

test("main: a ztunnel without PROXY_CONFIG and mesh file does not load the YAML parser", async () => {
  const planned = await plan(input(["proxy", "ztunnel"]).value);
  assert.ok(planned.kind === "run" && planned.config.role === "ztunnel");
  assert.equal(planned.config.proxyArgs, "proxy ztunnel");
});

test("main: a debugger in the runtime is refused, other runtime flags are noted", async () => {
  const refused = await run(["waypoint"], { BUN_INSPECT: "ws://127.0.0.1:6499/x" });
  assert.equal(refused.code, 2);
  assert.equal(refused.err, "ambit: environment variable BUN_INSPECT opens a debugger in this process: unset it\n");
  const noted = await plan(input(["waypoint"], { ...POD, BUN_OPTIONS: "--smol" }).value);
  assert.ok(noted.kind === "run");
  assert.match(noted.notes[0], /^environment variable BUN_OPTIONS is set and changes the runtime/);
});

test("main: explain takes its flags, and wrong ones are usage errors", async () => {
  const table: [string[], RegExp][] = [
    [["explain"], /explain needs --from/],
    [["explain", "--from=a/b"], /explain needs --to/],
    [["explain", "--from=a/b", "--to=1.2.3.4:80", "extra"], /unexpected argument "extra"/],
    [["explain", "--form=a/b"], /unknown flag "--form": did you mean --from\?/],
    [["explain", "--from=a/b", "--to=x:1", "--address=nonsense"], /flag --address: "nonsense" must be/],
  ];
  for (const [argv, pattern] of table) {
    const { code, err } = await run(argv);
    assert.equal(code, 2, argv.join(" "));
    assert.match(err, pattern);
  }
  for (const argv of [["explain", "--help"], ["help", "explain"]]) {
    const { code, out } = await run(argv);
    assert.equal(code, 0);
    assert.match(out, /--from=NAMESPACE\/SERVICEACCOUNT[^]*--json/);
  }
  const { code } = await run(["explain", "--from=a/b", "--to=1.2.3.4:80", "--address=127.0.0.1:1"]);
  assert.equal(code, 2);
});
