/** The plugin as a process of its own: this runtime with mod.ts, or the binary that AMBIT_BINARY names. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { type AgentAnswer, AgentStandIn, answerOk, answerWith, ApiStandIn, shopObjects } from "./support.ts";

const MOD = fileURLToPath(new URL("../../../mod.ts", import.meta.url));
const BINARY = process.env["AMBIT_BINARY"];
const FLAGS = process.versions.bun === undefined ? ["run", "--quiet", "--no-check", "--no-prompt", "-A"] : [];
const COMMAND = BINARY === undefined ? [process.execPath, ...FLAGS, MOD] : [BINARY];

const AMBIENT = { "istio.io/dataplane-mode": "ambient" };
const PREV_RESULT = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "eth0", sandbox: "/var/run/netns/n1" }],
  ips: [{ interface: 0, address: "10.0.0.7/24", gateway: "10.0.0.1" }],
};

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  /** stderr must be JSON lines. */
  readonly log: readonly Record<string, string>[];
}

interface Call {
  readonly env?: Record<string, string>;
  readonly conf?: Record<string, unknown>;
  readonly stdin?: string;
  readonly name?: string;
  readonly namespace?: string;
  /** Instead of mod.ts. */
  readonly script?: string;
}

async function run(runDir: string, call: Call = {}): Promise<Outcome> {
  const conf = {
    cniVersion: "1.0.0",
    name: "k8s-pod-network",
    type: "istio-cni",
    plugin_log_level: "debug",
    cni_agent_run_dir: runDir,
    ambient_enabled: true,
    enablement_selectors: [{ namespaceSelector: { matchLabels: AMBIENT } }],
    exclude_namespaces: ["kube-system"],
    pod_namespace: "istio-system",
    prevResult: PREV_RESULT,
    ...call.conf,
  };
  const [podName, namespace] = [call.name ?? "web-1", call.namespace ?? "shop"];
  const command = call.script === undefined ? COMMAND : [...COMMAND.slice(0, -1), call.script];
  const child = spawn(command[0], command.slice(1), {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: process.env["HOME"] ?? "/",
      ...(process.env["DENO_DIR"] === undefined ? {} : { DENO_DIR: process.env["DENO_DIR"] }),
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: "c1",
      CNI_NETNS: "/var/run/netns/ambit-no-such-namespace",
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${podName};K8S_POD_UID=u1`,
      // A proxy for the runtime's image pulls is none for the API server or for the agent.
      HTTP_PROXY: "http://127.0.0.1:9",
      HTTPS_PROXY: "http://127.0.0.1:9",
      ...call.env,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin?.on("error", () => {});
  child.stdin?.end(call.stdin ?? JSON.stringify(conf));
  const [stdout, stderr, code] = await Promise.all([textOf(child, "stdout"), textOf(child, "stderr"), exitOf(child)]);
  return { code, stdout, log: stderr.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line)) };
}

async function textOf(child: ChildProcess, name: "stdout" | "stderr"): Promise<string> {
  let text = "";
  for await (const chunk of child[name] ?? []) text += chunk;
  return text;
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", resolve);
  });
}

interface World {
  readonly agent: AgentStandIn;
  readonly api: ApiStandIn;
}

async function inWorld(
  { objects = shopObjects(), event, log }: {
    readonly objects?: ReturnType<typeof shopObjects>;
    readonly event?: AgentAnswer;
    readonly log?: AgentAnswer;
  },
  work: (world: World) => Promise<void>,
): Promise<void> {
  const agent = await AgentStandIn.start({ event, log });
  const api = await ApiStandIn.start(objects);
  api.writeKubeconfig(agent.directory);
  try {
    await work({ agent, api });
  } finally {
    api.stop();
    agent.stop();
  }
}

test("cni_plugin: a pod in an excluded namespace passes without any call", () =>
  inWorld({ event: answerOk }, async ({ agent, api }) => {
    const { code, stdout, log } = await run(agent.directory, { namespace: "kube-system" });
    assert.deepEqual([code, JSON.parse(stdout)], [0, PREV_RESULT]);
    assert.deepEqual([api.connections, agent.events], [0, []]);
    assert.deepEqual(log.map(({ level, msg, pod }) => [level, msg, pod]), [
      ["info", "nothing to do: pod namespace kube-system excluded", "kube-system/web-1"],
    ]);
  }));

test("cni_plugin: a pod that no selector matches passes after two reads", () =>
  inWorld({ event: answerOk, log: answerOk }, async ({ agent, api }) => {
    const { code, stdout, log } = await run(agent.directory);
    assert.deepEqual([code, JSON.parse(stdout)], [0, PREV_RESULT]);
    assert.deepEqual([api.requests.length, api.connections, agent.events.length], [2, 1, 0]);
    // The same lines everywhere.
    assert.deepEqual(agent.logLines, log);
    const file = readFileSync(join(agent.directory, "istio-cni.log"), "utf8");
    assert.deepEqual(
      file.trim().split("\n").map((line) => JSON.parse(line)),
      log.filter(({ level }) => level !== "debug"),
    );
  }));

test("cni_plugin: an ambient pod is announced to the agent", () =>
  inWorld({ objects: shopObjects(AMBIENT), event: answerOk }, async ({ agent }) => {
    const { code, stdout } = await run(agent.directory);
    assert.deepEqual([code, JSON.parse(stdout)], [0, PREV_RESULT]);
    assert.equal(agent.events.length, 1);
    const { method, path, contentType, body } = agent.events[0];
    assert.deepEqual([method, path, contentType], ["POST", "/cmdadd", "application/json"]);
    assert.deepEqual(JSON.parse(body), {
      Netns: "/var/run/netns/ambit-no-such-namespace",
      PodName: "web-1",
      PodNamespace: "shop",
      IPs: [{ Interface: 0, Address: { IP: "10.0.0.7", Mask: "////AA==" }, Gateway: "10.0.0.1" }],
    });
  }));

test("cni_plugin: an agent that fails, or is away, fails the pod", async () => {
  const failed = (text: string) => `istio-cni cmdAdd failed to contact node Istio CNI agent: ${text}`;
  await inWorld(
    { objects: shopObjects(AMBIENT), event: answerWith(500, "no ztunnel connection\n") },
    async ({ agent }) => {
      const { code, stdout } = await run(agent.directory);
      assert.deepEqual([code, JSON.parse(stdout)], [1, {
        cniVersion: "1.0.0",
        code: 999,
        msg: failed("unable to push CNI event (status code 500): no ztunnel connection"),
      }]);
    },
  );
  await inWorld({ objects: shopObjects(AMBIENT) }, async ({ agent }) => {
    const { code, stdout } = await run(agent.directory);
    assert.equal(code, 1);
    assert.ok(JSON.parse(stdout).msg.startsWith(failed(`there is no ${agent.directory}/pluginevent.sock`)), stdout);
  });
});

test("cni_plugin: a sidecar's pod is refused", () => {
  const pod = {
    metadata: { name: "web-1", annotations: { "sidecar.istio.io/status": "{}" } },
    spec: { containers: [{ name: "app" }, { name: "istio-proxy", args: ["proxy", "sidecar"] }] },
  };
  return inWorld({ objects: shopObjects(AMBIENT, pod), event: answerOk }, async ({ agent }) => {
    const { code, stdout } = await run(agent.directory);
    const { code: cniCode, msg, details } = JSON.parse(stdout);
    assert.deepEqual([code, cniCode, agent.events.length], [1, 100, 0]);
    assert.match(msg, /^pod shop\/web-1 has an Istio sidecar/);
    assert.match(details, /sidecar\.istio\.io\/inject=false/);
  });
});

test("cni_plugin: the agent's own pod passes with nothing there, everybody else is refused without a kubeconfig", async () => {
  const nowhere = "/nonexistent/istio-cni";
  const own = await run(nowhere, { name: "istio-cni-node-x1", namespace: "istio-system" });
  assert.deepEqual([own.code, JSON.parse(own.stdout)], [0, PREV_RESULT]);
  const other = await run(nowhere, { namespace: "kube-system" });
  assert.equal(other.code, 1);
  assert.match(JSON.parse(other.stdout).msg, /^failed to create a Kubernetes client from \/nonexistent\/istio-cni\//);
});

test("cni_plugin: answers in the version of the configuration", () =>
  inWorld({}, async ({ agent }) => {
    const conf = { cniVersion: "0.2.0", prevResult: { cniVersion: "0.2.0", ip4: { ip: "10.0.0.7/24" } } };
    const { code, stdout } = await run(agent.directory, { namespace: "kube-system", conf });
    assert.deepEqual([code, JSON.parse(stdout)], [0, { cniVersion: "0.2.0", ip4: { ip: "10.0.0.7/24" }, dns: {} }]);
  }));

test("cni_plugin: its own network namespace is refused", () =>
  inWorld({ objects: shopObjects(AMBIENT), event: answerOk }, async ({ agent }) => {
    const { code, stdout } = await run(agent.directory, { env: { CNI_NETNS: `/proc/${process.pid}/ns/net` } });
    assert.deepEqual([code, JSON.parse(stdout).code, agent.events], [1, 8, []]);
  }));

test("cni_plugin: a configuration that is no JSON, or larger than any, is refused", async () => {
  const broken = await run("/nonexistent", { stdin: "{" });
  assert.deepEqual([broken.code, JSON.parse(broken.stdout).code], [1, 6]);
  const huge = await run("/nonexistent", { stdin: " ".repeat(5 << 20) });
  assert.deepEqual([huge.code, JSON.parse(huge.stdout).code], [1, 5]);
});

test("cni_plugin: VERSION, DEL, CHECK, STATUS and GC", async () => {
  const outcomes = await Promise.all(["VERSION", "DEL", "CHECK", "STATUS", "GC"].map(async (command) => {
    return await run("/nonexistent", {
      env: { CNI_COMMAND: command },
      conf: { cniVersion: "1.1.0", prevResult: undefined },
    });
  }));
  assert.deepEqual(outcomes.map(({ code }) => code), [0, 0, 0, 0, 0]);
  assert.deepEqual(JSON.parse(outcomes[0].stdout).supportedVersions.length, 7);
  assert.deepEqual(outcomes.slice(1).map(({ stdout }) => stdout), ["", "", "", ""]);
});

test("cni_plugin: a bug that nobody catches is an error of the plugin, and the agent hears of it", async () => {
  if (BINARY !== undefined) return;
  await inWorld({ objects: shopObjects(AMBIENT), event: () => {}, log: answerOk }, async ({ agent }) => {
    const script = join(agent.directory, "buggy.ts");
    const role = new URL("../../../src/roles/cni_plugin.ts", import.meta.url).href;
    writeFileSync(
      script,
      `import { runCniPlugin } from "${role}";\n` +
        'setTimeout(() => { throw new Error("boom"); }, 400);\nprocess.exit(await runCniPlugin());\n',
    );
    const { code, stdout } = await run(agent.directory, { script });
    const answer = JSON.parse(stdout);
    assert.deepEqual([code, answer.code], [1, 999]);
    assert.match(answer.msg, /^istio-cni panicked: (.*\n)?.*boom/);
    assert.ok(agent.logLines.some(({ level, msg }) => level === "error" && /boom/.test(msg)));
  });
});
