/** What the installer puts where: reference cni.md 8.1, and TestCreateCNIConfigFile, TestGetCNIConfigFilepath and TestCleanup of 8.2. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, test } from "node:test";
import { isSame } from "../../../src/cni/install/conflist.ts";
import { BRIDGE, ENTRY, LIST, type NodeSettings, OTHER_LIST, TestNode } from "./support.ts";

let node: TestNode;

afterEach(() => node?.remove());

function make(settings: NodeSettings = {}): TestNode {
  node = new TestNode(settings);
  return node;
}

async function installed(): Promise<TestNode> {
  node.start();
  await node.ready();
  return node;
}

const CALICO = ["calico", "portmap"];
const MERGED = [...CALICO, "istio-cni"];
const INVALID_LISTS = [
  { cniVersion: "0.3.1", plugins: [{ type: "a" }] },
  { name: "a", plugins: [{ type: "a" }] },
  { name: "a", cniVersion: "0.3.1", plugins: [] },
];

describe("install: the primary file", () => {
  test("a list gets our entry, keeps its mode and the rest, and loses the entry at the clean-up", async () => {
    make().put("10-calico.conflist", LIST, 0o644);
    await installed();
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    assert.equal(node.mode(join(node.netDir, "10-calico.conflist")), 0o644);
    assert.deepEqual(node.readiness, [true]);
    assert.deepEqual(node.results, ["SUCCESS"]);
    assert.ok(node.captured.lines.includes("info initial installation complete, start watching for re-installation"));
    await node.stop();
    await node.installer.cleanUp();
    assert.ok(isSame(node.get("10-calico.conflist"), LIST));
    assert.deepEqual(node.files(), ["10-calico.conflist"]);
    assert.deepEqual([node.files(node.binaryDir), node.files(node.runDir)], [[], []]);
    assert.equal(node.mode(join(node.netDir, "10-calico.conflist")), 0o644);
  });

  test("a single plugin becomes a list with its mode, and stays one", async () => {
    make().put("10-bridge.conf", BRIDGE, 0o600);
    await installed();
    assert.deepEqual(node.files(), ["10-bridge.conflist"]);
    assert.deepEqual(node.types("10-bridge.conflist"), ["bridge", "istio-cni"]);
    assert.equal(node.mode(join(node.netDir, "10-bridge.conflist")), 0o600);
    await node.stop();
    await node.installer.cleanUp();
    assert.deepEqual(node.types("10-bridge.conflist"), ["bridge"]);
  });

  test("the first valid one by name wins; what the runtime would not take is passed over", async () => {
    make();
    node.put("00-notes.txt", LIST);
    node.put("01-broken.conf", "no JSON");
    node.put("02-typeless.conf", { name: "x" });
    for (const [index, list] of INVALID_LISTS.entries()) node.put(`03-${index}.conflist`, list);
    node.put("04-empty.conflist", "");
    mkdirSync(join(node.netDir, "05-folder.conflist"));
    node.put("10-calico.conflist", LIST);
    node.put("20-other.conflist", OTHER_LIST);
    await installed();
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    assert.deepEqual(node.types("20-other.conflist"), ["ptp"]);
    assert.equal(node.files().length, 10);
  });

  test("what holds nothing but our own plugin is no network to join", async () => {
    make().put("01-istio-cni.conf", ENTRY);
    node.put("10-calico.conflist", LIST);
    await installed();
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    assert.deepEqual(node.files(), ["01-istio-cni.conf", "10-calico.conflist"]);
  });

  test("none yet: waits for one, and says what is in the way", async () => {
    make().put("10-calico.conflist", "{");
    node.start();
    await node.armed();
    assert.deepEqual([node.installer.ready, node.results], [false, []]);
    assert.match(node.installer.state, /no valid CNI configuration in .* yet \(10-calico\.conflist: it is not JSON/);
    assert.ok(existsSync(join(node.binaryDir, "istio-cni")), "the rest is in place");
    node.put("10-calico.conflist", LIST);
    await node.touch(join(node.netDir, "10-calico.conflist"));
    await node.pass();
    await node.ready();
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    assert.deepEqual(node.results, ["SUCCESS"]);
  });

  for (const [wanted, there] of [["a.conf", "a.conflist"], ["a.conflist", "a.conf"]]) {
    test(`CNI_CONF_NAME ${wanted} where there is only ${there}`, async () => {
      make({ config: { confName: wanted } }).put(there, there === "a.conf" ? BRIDGE : LIST);
      node.put("0-first.conflist", OTHER_LIST);
      await installed();
      assert.deepEqual(node.files(), ["0-first.conflist", "a.conflist"]);
      assert.equal(node.types("a.conflist").at(-1), "istio-cni");
      assert.deepEqual(node.types("0-first.conflist"), ["ptp"]);
      assert.ok(node.captured.lines.some((line) => /^warn .*0-first\.conflist comes first/.test(line)));
    });
  }

  test("CNI_CONF_NAME that comes later is waited for, whatever else there is", async () => {
    make({ config: { confName: "10-calico.conflist" } }).put("05-other.conflist", OTHER_LIST);
    node.start();
    await node.armed();
    assert.match(node.installer.state, /CNI_CONF_NAME 10-calico\.conflist is not in/);
    node.put("10-calico.conflist", LIST);
    await node.touch(join(node.netDir, "10-calico.conflist"));
    await node.pass();
    await node.ready();
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    assert.deepEqual(node.types("05-other.conflist"), ["ptp"]);
  });

  test("the clean-up takes our entry out of every list, also of one chosen before", async () => {
    make().put("10-calico.conflist", LIST);
    await installed();
    node.put("05-other.conflist", OTHER_LIST);
    await node.touch(join(node.netDir, "05-other.conflist"));
    await node.pass();
    await node.ready();
    assert.deepEqual(node.types("05-other.conflist"), ["ptp", "istio-cni"]);
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    await node.stop();
    await node.installer.cleanUp();
    assert.deepEqual([node.types("05-other.conflist"), node.types("10-calico.conflist")], [["ptp"], CALICO]);
  });
});

describe("install: a file of our own", () => {
  for (const name of [undefined, "multus-istio.conf"]) {
    test(`standalone as ${name ?? "YYY-istio-cni.conf"}`, async () => {
      make({ config: { chained: false, confName: name } }).put("10-calico.conflist", LIST);
      await installed();
      const file = name ?? "YYY-istio-cni.conf";
      assert.deepEqual(node.files(), ["10-calico.conflist", file]);
      const golden = readFileSync(new URL("./golden/istio-cni.conf", import.meta.url), "utf8");
      assert.equal(readFileSync(join(node.netDir, file), "utf8"), golden);
      assert.equal(node.mode(join(node.netDir, file)), 0o600);
      assert.deepEqual(node.types("10-calico.conflist"), CALICO);
      await node.stop();
      await node.installer.cleanUp();
      assert.deepEqual(node.files(), ["10-calico.conflist"]);
    });
  }

  test("new files are 0640 when their group is to read them", async () => {
    make({ config: { chained: false, confGroupRead: true, kubeconfigMode: 0o640 } });
    await installed();
    assert.equal(node.mode(join(node.netDir, "YYY-istio-cni.conf")), 0o640);
    assert.equal(node.mode(node.kubeconfig), 0o640);
  });

  for (const primary of ["10-calico.conflist", "10-bridge.conf"]) {
    test(`owned, beside ${primary}: the primary file is left alone`, async () => {
      make({ config: { ownedConfig: true } }).put(primary, primary.endsWith("list") ? LIST : BRIDGE, 0o644);
      const before = readFileSync(join(node.netDir, primary), "utf8");
      await installed();
      assert.deepEqual(node.files(), ["02-istio-cni.conflist", primary]);
      assert.equal(readFileSync(join(node.netDir, primary), "utf8"), before);
      const golden = readFileSync(
        new URL(
          `./golden/${primary.slice(3).replace("calico", "list").replace(/\.conf$/, ".conflist")}`,
          import.meta.url,
        ),
        "utf8",
      );
      assert.equal(readFileSync(join(node.netDir, "02-istio-cni.conflist"), "utf8"), golden);
      assert.equal(node.mode(join(node.netDir, "02-istio-cni.conflist")), 0o600);
      await node.stop();
      await node.installer.cleanUp();
      assert.deepEqual(node.files(), [primary]);
    });
  }

  test("owned, under a name of the operator's, and with a primary file by name", async () => {
    make({ config: { ownedConfig: true, ownedConfigFile: "01-mine.conflist", confName: "20-other.conflist" } });
    node.put("10-calico.conflist", LIST);
    node.put("20-other.conflist", OTHER_LIST);
    await installed();
    assert.deepEqual(node.types("01-mine.conflist"), ["ptp", "istio-cni"]);
  });

  test("owned, after a restart: the primary file is still the other one", async () => {
    make({ config: { ownedConfig: true } }).put("10-calico.conflist", LIST);
    await installed();
    await node.stop();
    node.start();
    await node.pass();
    await node.ready();
    assert.deepEqual(node.types("02-istio-cni.conflist"), MERGED);
    assert.deepEqual(node.results, ["SUCCESS", "SUCCESS"]);
  });

  test("owned, but the runtime takes another: not ready, and said", async () => {
    make({ config: { ownedConfig: true } }).put("10-calico.conflist", LIST);
    node.put("01-first.conflist", OTHER_LIST);
    node.start();
    await node.armed();
    assert.equal(node.installer.ready, false);
    assert.match(node.installer.state, /02-istio-cni\.conflist has a lower priority than 01-first\.conflist/);
    unlinkSync(join(node.netDir, "01-first.conflist"));
    await node.touch(join(node.netDir, "01-first.conflist"));
    await node.pass();
    await node.ready();
  });

  test("owned is for ambient mode only", async () => {
    make({ config: { ownedConfig: true }, ambientEnabled: false }).put("10-calico.conflist", LIST);
    await installed();
    assert.deepEqual(node.files(), ["10-calico.conflist"]);
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
  });

  test("what an agent with a configuration of its own left is replaced, not followed", async () => {
    make().put("02-istio-cni.conflist", { ...LIST, plugins: [...LIST.plugins, ENTRY] });
    node.put("10-calico.conflist", LIST);
    await installed();
    assert.deepEqual(node.files(), ["10-calico.conflist"]);
    assert.deepEqual(node.types("10-calico.conflist"), MERGED);
    assert.ok(!node.captured.lines.some((line) => line.startsWith("warn")));
  });

  test("where it is all there is, it is the network", async () => {
    make().put("02-istio-cni.conflist", { ...LIST, plugins: [...LIST.plugins, { type: "istio-cni" }] });
    await installed();
    assert.deepEqual(node.types("02-istio-cni.conflist"), MERGED);
    await node.stop();
    await node.installer.cleanUp();
    assert.deepEqual(node.types("02-istio-cni.conflist"), CALICO);
  });
});

describe("install: binaries and kubeconfig", () => {
  test("every file of the source is copied with its mode; what a killed one left is removed", async () => {
    make().put("10-calico.conflist", LIST);
    writeFileSync(join(node.sourceDir, "extra"), "x", { mode: 0o700 });
    mkdirSync(join(node.sourceDir, "folder"));
    writeFileSync(join(node.binaryDir, "istio-cni.tmp.123"), "half");
    writeFileSync(join(node.binaryDir, "bridge"), "another's");
    await installed();
    assert.deepEqual(node.files(node.binaryDir), ["bridge", "extra", "istio-cni"]);
    assert.equal(node.mode(join(node.binaryDir, "istio-cni")), 0o755);
    assert.equal(node.mode(join(node.binaryDir, "extra")), 0o700);
    assert.equal(readFileSync(join(node.binaryDir, "istio-cni"), "utf8"), "plugin, first version");
  });

  test("an older binary is replaced by a new file, so that one that runs goes on", async () => {
    make().put("10-calico.conflist", LIST);
    writeFileSync(join(node.binaryDir, "istio-cni"), "older");
    const { openSync, readSync, closeSync } = await import("node:fs");
    const running = openSync(join(node.binaryDir, "istio-cni"), "r");
    await installed();
    const bytes = new Uint8Array(5);
    readSync(running, bytes, 0, 5, 0);
    closeSync(running);
    assert.equal(new TextDecoder().decode(bytes), "older");
    assert.equal(readFileSync(join(node.binaryDir, "istio-cni"), "utf8"), "plugin, first version");
  });

  test("the kubeconfig has address, CA and token, replaces what is invalid, and is logged without secrets", async () => {
    make({ config: { kubernetesHost: "fd00::1" } }).put("10-calico.conflist", LIST);
    mkdirSync(node.runDir, { recursive: true });
    writeFileSync(node.kubeconfig, "nonsense", { mode: 0o777 });
    await installed();
    const config = JSON.parse(readFileSync(node.kubeconfig, "utf8"));
    assert.equal(config.clusters[0].cluster.server, "https://[fd00::1]:443");
    assert.match(atob(config.clusters[0].cluster["certificate-authority-data"]), /BEGIN CERTIFICATE/);
    assert.equal(config.users[0].user.token, "token-1");
    assert.equal(node.mode(node.kubeconfig), 0o600);
    const logged = node.captured.lines.find((line) => line.includes("wrote kubeconfig")) ?? "";
    assert.match(logged, /fd00::1/);
    assert.ok(!logged.includes("token-1"));
  });

  test("the server may be left unverified", async () => {
    make({ config: { skipTlsVerify: true } }).put("10-calico.conflist", LIST);
    rmSync(join(node.accountDir, "ca.crt"));
    await installed();
    assert.equal(
      JSON.parse(readFileSync(node.kubeconfig, "utf8")).clusters[0].cluster["insecure-skip-tls-verify"],
      true,
    );
  });
});
