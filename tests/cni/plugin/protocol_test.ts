import assert from "node:assert/strict";
import { test } from "node:test";
import { CniError } from "../../../src/cni/plugin/cni_error.ts";
import { type AddCommand, runProtocol } from "../../../src/cni/plugin/protocol.ts";
import { SUPPORTED_VERSIONS } from "../../../src/cni/plugin/versions.ts";

const ADD_ENV = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "c1",
  CNI_NETNS: "/var/run/netns/n1",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/opt/cni/bin",
};
const CONF = { cniVersion: "1.0.0", name: "k8s-pod-network", type: "istio-cni" };

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly added: boolean;
  /** Of the error on stdout. */
  readonly error: { cniVersion?: string; code?: number; msg?: string; details?: string };
}

async function run(
  env: Record<string, string | undefined>,
  conf: unknown = CONF,
  { isOwnNetns = false, add, readStdin }: {
    readonly isOwnNetns?: boolean;
    readonly add?: AddCommand;
    readonly readStdin?: () => string;
  } = {},
): Promise<Outcome> {
  let [stdout, stderr, added] = ["", "", false];
  const heard: string[] = [];
  const code = await runProtocol(
    {
      env,
      readStdin: readStdin ?? (() => typeof conf === "string" ? conf : JSON.stringify(conf)),
      writeStdout: (text) => void (stdout += text),
      writeStderr: (text) => void (stderr += text),
      isOwnNetns: (path) => {
        assert.equal(path, env["CNI_NETNS"]);
        return isOwnNetns;
      },
    },
    async () => "CNI plugin istio-cni 1",
    async (request, input) => {
      added = true;
      return add === undefined ? '{"done":true}' : await add(request, input);
    },
    (error) => heard.push(error.message),
  );
  const error = code === 0 ? {} : JSON.parse(stdout);
  assert.deepEqual(heard, code === 0 ? [] : [error.msg]);
  return { code, stdout, stderr, added, error };
}

test("protocol: ADD prints its result and nothing else", async () => {
  assert.deepEqual(await run(ADD_ENV), { code: 0, stdout: '{"done":true}', stderr: "", added: true, error: {} });
});

test("protocol: every version is taken, and told to ADD", async () => {
  for (const version of SUPPORTED_VERSIONS) {
    const add: AddCommand = async (_, input) => input.version;
    assert.equal((await run(ADD_ENV, { ...CONF, cniVersion: version }, { add })).stdout, version);
  }
  const add: AddCommand = async (_, input) => input.version;
  assert.equal((await run(ADD_ENV, { name: "n" }, { add })).stdout, "0.1.0");
});

test("protocol: other versions are refused with code 1", async () => {
  const { error, added } = await run(ADD_ENV, { ...CONF, cniVersion: "2.0.0" });
  assert.equal(added, false);
  assert.deepEqual(error, {
    cniVersion: "1.1.0",
    code: 1,
    msg: "incompatible CNI versions",
    details: 'config is "2.0.0", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]',
  });
});

test("protocol: without CNI_COMMAND it says what it is, on stderr", async () => {
  const { code, stdout, stderr } = await run({});
  assert.deepEqual([code, stdout], [0, ""]);
  assert.equal(
    stderr,
    "CNI plugin istio-cni 1\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
  );
});

test("protocol: VERSION needs neither variables nor a configuration", async () => {
  const readStdin = () => assert.fail("read");
  const { code, stdout } = await run({ CNI_COMMAND: "VERSION" }, undefined, { readStdin });
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), {
    cniVersion: "1.1.0",
    supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  });
});

test("protocol: variables that are missing, by command", async () => {
  const table: [string, string][] = [
    ["ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"],
    ["CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"],
    ["DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"],
    ["GC", "CNI_PATH"],
    ["STATUS", "CNI_PATH"],
  ];
  for (const [command, missing] of table) {
    const { code, error } = await run({ CNI_COMMAND: command });
    assert.equal(code, 1);
    assert.deepEqual([error.code, error.msg], [4, `required env variables [${missing}] missing`]);
    const one = await run({ ...ADD_ENV, CNI_COMMAND: command, CNI_PATH: "" });
    assert.equal(one.error.msg, "required env variables [CNI_PATH] missing");
  }
});

test("protocol: container ids and interface names that cannot be", async () => {
  const table: [Record<string, string>, string][] = [
    [{ CNI_CONTAINERID: "-a" }, "invalid characters in containerID"],
    [{ CNI_CONTAINERID: "a/b" }, "invalid characters in containerID"],
    [{ CNI_CONTAINERID: "a\n" }, "invalid characters in containerID"],
    [{ CNI_IFNAME: "sixteen-letters1" }, "interface name is too long"],
    [{ CNI_IFNAME: "éééééééé" }, "interface name is too long"],
    [{ CNI_IFNAME: ".." }, "interface name is . or .."],
    [{ CNI_IFNAME: "a/b" }, "interface name contains / or : or whitespace characters"],
    [{ CNI_IFNAME: "a:b" }, "interface name contains / or : or whitespace characters"],
    [{ CNI_IFNAME: "a\u0085b" }, "interface name contains / or : or whitespace characters"],
  ];
  for (const [change, message] of table) {
    const { error, added } = await run({ ...ADD_ENV, ...change });
    assert.deepEqual([error.code, error.msg, added], [4, message, false], JSON.stringify(change));
  }
  // A command that does not need them does not look at them.
  assert.equal((await run({ CNI_COMMAND: "VERSION", CNI_IFNAME: "a/b" })).code, 0);
});

test("protocol: configurations that cannot be", async () => {
  const table: [unknown, number, RegExp][] = [
    ["{", 6, /^cannot read the network config: /],
    ["", 6, /^cannot read the network config: /],
    ["[]", 6, /it is no object$/],
    [{ ...CONF, name: 7 }, 6, /name must be a string$/],
    [{ ...CONF, cniVersion: 1 }, 6, /cniVersion must be a string$/],
    [{ cniVersion: "1.0.0" }, 7, /^missing network name$/],
    [{ ...CONF, name: "a b" }, 7, /^invalid characters found in network name$/],
  ];
  for (const command of ["ADD", "DEL", "CHECK", "GC", "STATUS"]) {
    for (const [conf, code, message] of table) {
      const { error, added } = await run({ ...ADD_ENV, CNI_COMMAND: command }, conf);
      assert.deepEqual([error.code, added], [code, false], `${command} ${JSON.stringify(conf)}`);
      assert.match(error.msg ?? "", message);
    }
  }
  const unreadable = await run(ADD_ENV, CONF, {
    readStdin: () => {
      throw new Error("EBADF");
    },
  });
  assert.deepEqual([unreadable.error.code, unreadable.error.msg], [5, "error reading from stdin: EBADF"]);
});

test("protocol: DEL succeeds in silence, also without a namespace", async () => {
  for (const netns of ["", "/var/run/netns/gone"]) {
    const { code, stdout, added } = await run({ ...ADD_ENV, CNI_COMMAND: "DEL", CNI_NETNS: netns });
    assert.deepEqual([code, stdout, added], [0, "", false]);
  }
  assert.equal((await run({ ...ADD_ENV, CNI_COMMAND: "DEL" }, { ...CONF, cniVersion: "3.0.0" })).error.code, 1);
});

test("protocol: CHECK, GC and STATUS succeed from their versions on", async () => {
  const table: [string, string, string][] = [
    ["CHECK", "0.3.1", "0.4.0"],
    ["GC", "1.0.0", "1.1.0"],
    ["STATUS", "1.0.0", "1.1.0"],
  ];
  for (const [command, tooOld, since] of table) {
    const env = { ...ADD_ENV, CNI_COMMAND: command };
    const { code, stdout } = await run(env, { ...CONF, cniVersion: since });
    assert.deepEqual([code, stdout], [0, ""]);
    const { error } = await run(env, { ...CONF, cniVersion: tooOld });
    assert.deepEqual([error.code, error.msg], [1, `config version does not allow ${command}`]);
    assert.equal((await run(env, { ...CONF, cniVersion: "1.2.0" })).error.code, 1);
    assert.equal((await run(env, { ...CONF, cniVersion: "1.x" })).error.code, 6);
  }
});

test("protocol: an unknown command is code 4", async () => {
  const { error } = await run({ CNI_COMMAND: "UPDATE" });
  assert.deepEqual([error.code, error.msg], [4, "unknown CNI_COMMAND: UPDATE"]);
});

test("protocol: the plugin's own namespace is refused with code 8 before anything is done", async () => {
  for (const command of ["ADD", "DEL"]) {
    const env = { ...ADD_ENV, CNI_COMMAND: command };
    const { error, added } = await run(env, CONF, { isOwnNetns: true });
    assert.deepEqual([error.code, added], [8, false]);
    assert.equal(error.msg, "plugin's netns and netns from CNI_NETNS should not be the same");
    for (const override of ["1", "true", "TRUE"]) {
      assert.equal((await run({ ...env, CNI_NETNS_OVERRIDE: override }, CONF, { isOwnNetns: true })).code, 0);
    }
  }
});

test("protocol: errors of ADD keep their code, others are 999", async () => {
  const failing = (thrown: unknown) => run(ADD_ENV, CONF, { add: () => Promise.reject(thrown) });
  assert.deepEqual((await failing(new CniError(100, "no", "because"))).error, {
    cniVersion: "1.0.0",
    code: 100,
    msg: "no",
    details: "because",
  });
  assert.deepEqual((await failing(new TypeError("bug"))).error, { cniVersion: "1.0.0", code: 999, msg: "bug" });
  assert.deepEqual((await failing("text")).error, { cniVersion: "1.0.0", code: 999, msg: "text" });
});
