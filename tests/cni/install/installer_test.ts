/** The installer's loop: drift and its repair, failures, throttle. TestCheckInstall and TestSleepCheckInstall of reference cni.md 8.2. */
import assert from "node:assert/strict";
import { renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, test } from "node:test";
import { isSame } from "../../../src/cni/install/conflist.ts";
import { NODE_FS } from "../../../src/cni/install/fs.ts";
import { watchDirectory } from "../../../src/cni/install/watch.ts";
import { until } from "../../control/kube/until.ts";
import { ENTRY, LIST, type NodeSettings, OTHER_LIST, TestNode } from "./support.ts";

const CONF = "10-calico.conflist";
const OWNED = "02-istio-cni.conflist";
const MERGED = ["calico", "portmap", "istio-cni"];

let node: TestNode;

afterEach(() => node?.remove());

function make(settings: NodeSettings = {}): TestNode {
  node = new TestNode(settings);
  node.put(CONF, LIST);
  return node;
}

async function ready(settings: NodeSettings = {}): Promise<void> {
  make(settings).start();
  await node.ready();
  node.captured.lines.length = node.results.length = node.readiness.length = 0;
}

/** A change of this file makes it unready, and one pass later it is ready again. */
async function heals(path: string): Promise<void> {
  await node.touch(path);
  await node.notReady();
  await node.pass();
  await node.ready();
  assert.deepEqual(node.readiness.splice(0), [false, true]);
  assert.deepEqual(node.results.splice(0), ["SUCCESS"]);
}

describe("installer: repairs", () => {
  const conf = () => join(node.netDir, CONF);

  test("the entry that was removed, changed, or is there twice", async () => {
    await ready();
    node.put(CONF, LIST);
    await heals(conf());
    assert.deepEqual(node.types(CONF), MERGED);
    assert.ok(
      node.captured.lines.some((line) =>
        /^info configuration requires updates, \(re\)writing CNI config file at .*missing/.test(line)
      ),
    );
    node.put(CONF, { ...LIST, plugins: [...LIST.plugins, { ...ENTRY, ambient_enabled: false }] });
    await heals(conf());
    node.put(CONF, { ...LIST, plugins: [{ type: "istio-cni" }, ...LIST.plugins, { type: "istio-cni" }] });
    await heals(conf());
    const { cniVersion: _, ...ours } = ENTRY;
    assert.ok(isSame(node.get(CONF)["plugins"], [...LIST.plugins, ours]));
  });

  test("the file that was removed, when it is there again", async () => {
    await ready();
    unlinkSync(conf());
    await node.touch(conf());
    await node.notReady();
    await node.pass();
    await node.armed();
    assert.match(node.installer.state, /no valid CNI configuration/);
    node.put(CONF, LIST);
    await node.touch(conf());
    await node.pass();
    await node.ready();
    assert.deepEqual(node.types(CONF), MERGED);
  });

  test("another file that comes first now", async () => {
    await ready();
    node.put("05-other.conflist", OTHER_LIST);
    await heals(join(node.netDir, "05-other.conflist"));
    assert.deepEqual(node.types("05-other.conflist"), ["ptp", "istio-cni"]);
  });

  test("the binary: removed, or replaced by another", async () => {
    await ready();
    const binary = join(node.binaryDir, "istio-cni");
    unlinkSync(binary);
    await heals(binary);
    writeFileSync(binary, "an intruder");
    await heals(binary);
    assert.equal(readFileSync(binary, "utf8"), "plugin, first version");
  });

  test("the kubeconfig: removed, or its token renewed", async () => {
    await ready();
    unlinkSync(node.kubeconfig);
    await heals(node.kubeconfig);
    writeFileSync(join(node.accountDir, "token.new"), "token-2");
    renameSync(join(node.accountDir, "token.new"), join(node.accountDir, "token"));
    await heals(join(node.accountDir, "..data"));
    assert.equal(JSON.parse(readFileSync(node.kubeconfig, "utf8")).users[0].user.token, "token-2");
  });

  test("owned: the file removed, its entry removed, the primary's content changed", async () => {
    await ready({ config: { ownedConfig: true } });
    const own = () => join(node.netDir, OWNED);
    unlinkSync(own());
    await heals(own());
    node.put(OWNED, LIST);
    await heals(own());
    // Only a plugin's setting: the types are the same.
    node.put(CONF, { ...LIST, plugins: [{ ...LIST.plugins[0], mtu: 9000 }, LIST.plugins[1]] });
    await heals(conf());
    assert.equal((node.get(OWNED)["plugins"] as { mtu: number }[])[0].mtu, 9000);
    // And an own file that is ahead of the primary.
    node.put(OWNED, { ...node.get(OWNED), name: "else" });
    await heals(own());
    assert.deepEqual(node.types(CONF), ["calico", "portmap"]);
  });

  test("standalone: the file removed or changed", async () => {
    await ready({ config: { chained: false } });
    const own = join(node.netDir, "YYY-istio-cni.conf");
    unlinkSync(own);
    await heals(own);
    node.put("YYY-istio-cni.conf", { ...ENTRY, type: "other" });
    await heals(own);
    assert.equal(node.get("YYY-istio-cni.conf")["type"], "istio-cni");
  });

  test("without an event, within 15 s", async () => {
    await ready();
    node.put(CONF, LIST);
    node.time.advance(14_900);
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
    assert.equal(node.installer.ready, true);
    node.time.advance(100);
    await until(() => node.results.length === 1 && node.installer.ready, "it is repaired");
    assert.deepEqual(node.types(CONF), MERGED);
  });
});

describe("installer: leaves alone", () => {
  test("changes that change nothing of it: it stays ready, and writes nothing", async () => {
    await ready();
    node.put("99-unrelated.conflist", OTHER_LIST);
    await node.touch(join(node.netDir, "99-unrelated.conflist"));
    await node.armed();
    // A plugin that was put behind ours by its owner.
    node.put(CONF, {
      ...node.get(CONF),
      plugins: [...node.get(CONF)["plugins"] as unknown[], { type: "linkerd-cni" }],
    });
    await node.touch(join(node.netDir, CONF));
    await node.armed();
    assert.deepEqual([node.readiness, node.results], [[], []]);
    assert.deepEqual(node.types(CONF), [...MERGED, "linkerd-cni"]);
  });

  test("temporary files, and others' binaries, are not even looked at", async () => {
    await ready();
    for (
      const path of [
        join(node.netDir, `${CONF}.tmp.1`),
        join(node.binaryDir, "bridge"),
        join(node.runDir, "istio-cni.log"),
      ]
    ) {
      const [directory, name] = [path.slice(0, path.lastIndexOf("/")), path.slice(path.lastIndexOf("/") + 1)];
      node.watched.get(directory)?.(name);
    }
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
    assert.ok(node.time.nextInMs() > 1_000, "nothing settles");
  });
});

describe("installer: a fight", () => {
  test("is slowed down, and told with what to do", async () => {
    await ready();
    node.put("05-cilium.conflist", OTHER_LIST);
    await heals(join(node.netDir, "05-cilium.conflist"));
    for (let i = 0; i < 6; i++) {
      node.put("05-cilium.conflist", OTHER_LIST);
      await node.touch(join(node.netDir, "05-cilium.conflist"));
      await until(() => node.time.nextInMs() <= 1_000, "it waits for its turn");
      assert.ok(node.time.nextInMs() >= 800, `slowed down: ${node.time.nextInMs()}`);
      await node.pass();
      await node.ready();
    }
    const warnings = node.captured.lines.filter((line) => line.startsWith("warn"));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /05-cilium\.conflist; .*cni\.exclusive=false/);
  });

  test("changes far apart are none", async () => {
    await ready();
    for (let i = 0; i < 8; i++) {
      node.time.advance(5_000);
      await node.armed();
      node.put(CONF, LIST);
      await node.touch(join(node.netDir, CONF));
      await until(() => node.results.length === i + 1, "it is repaired at once");
      await node.ready();
    }
    assert.deepEqual(node.captured.lines.filter((line) => line.startsWith("warn")), []);
  });
});

describe("installer: failures", () => {
  const failing = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));

  for (
    const [code, hint] of [
      ["EROFS", /read-only file system: set the Helm value global\.platform/],
      ["EACCES", /no permission \(EACCES\).*SELinux/],
      ["ENOSPC", /no space left on the file system of .*bin: make room/],
      ["ENOENT", /no folder .*bin: is it mounted from the node\?/],
    ] as const
  ) {
    test(`${code} is told with what to do, and tried again`, async () => {
      let broken = true;
      const create = (path: string) =>
        broken && path.startsWith(node.binaryDir) ? failing(code)() : NODE_FS.create(path);
      make({ fs: { create } }).start();
      await node.armed();
      assert.match(node.captured.lines.find((line) => line.startsWith("error installation failed")) ?? "", hint);
      assert.deepEqual([node.results, node.installer.ready], [["COPY_BINARIES_FAILURE"], false]);
      assert.equal(node.time.nextInMs(), 1_000);
      node.time.advanceToNext();
      await until(() => node.results.length === 2 && node.time.nextInMs() === 2_000, "a longer pause");
      broken = false;
      node.time.advanceToNext();
      await node.ready();
      assert.equal(node.results.at(-1), "SUCCESS");
    });
  }

  test("a disk that fills up in mid-write leaves the old file and no temporary one", async () => {
    let broken = false;
    const create: typeof NODE_FS.create = async (path) => {
      const file = await NODE_FS.create(path);
      if (!broken) return file;
      let writes = 0;
      const write = (bytes: Uint8Array) =>
        ++writes > 0 ? file.write(bytes.subarray(0, 3)).then(failing("ENOSPC")) : file.write(bytes);
      return { ...file, write };
    };
    await ready({ fs: { create } });
    broken = true;
    node.put(CONF, LIST);
    await node.touch(join(node.netDir, CONF));
    await node.pass();
    await until(() => node.results.length === 1, "it failed");
    assert.deepEqual(node.results, ["CREATE_CNI_CONFIG_FAILURE"]);
    assert.deepEqual(node.files(), [CONF]);
    assert.ok(isSame(node.get(CONF), LIST), "whole");
    broken = false;
    await node.armed();
    node.time.advanceToNext();
    await node.ready();
    assert.deepEqual(node.types(CONF), MERGED);
  });

  test("a token that is missing is waited for, and seen when it comes", async () => {
    make();
    rmSync(join(node.accountDir, "token"));
    node.start();
    await node.armed();
    assert.deepEqual(node.results, ["CREATE_KUBECONFIG_FAILURE"]);
    assert.match(node.installer.state, /cannot read the service account's token/);
    assert.deepEqual(node.types(CONF), ["calico", "portmap"], "no chain refers to a plugin that cannot work");
    writeFileSync(join(node.accountDir, "token"), "late");
    await node.touch(join(node.accountDir, "token"));
    await node.pass();
    await node.ready();
  });

  test("an API server without an address", async () => {
    make({ config: { kubernetesHost: undefined } }).start();
    await node.armed();
    assert.match(node.installer.state, /KUBERNETES_SERVICE_HOST is not set/);
    assert.deepEqual(node.results, ["CREATE_KUBECONFIG_FAILURE"]);
  });

  test("nothing to install", async () => {
    make();
    rmSync(join(node.sourceDir, "istio-cni"));
    node.start();
    await node.armed();
    assert.match(node.installer.state, /no binaries to install/);
  });

  test("a clean-up does what it can, and says the rest", async () => {
    let broken = false;
    const unlink = (path: string) => broken && path.endsWith("kubeconfig") ? failing("EROFS")() : NODE_FS.unlink(path);
    await ready({ fs: { unlink } });
    await node.stop();
    const { cleanUp } = await import("../../../src/cni/install/clean_up.ts");
    broken = true;
    const options = {
      config: node.config,
      ambientEnabled: true,
      runDir: node.runDir,
      entry: ENTRY,
      log: node.captured.log,
    };
    await cleanUp({ ...NODE_FS, unlink }, options);
    assert.deepEqual([node.types(CONF), node.files(node.binaryDir)], [["calico", "portmap"], []]);
    assert.ok(
      node.captured.lines.some((line) => /^error clean-up: cannot remove .*kubeconfig: .*read-only/.test(line)),
    );
  });
});

describe("installer: the kernel's events", () => {
  test("a change is seen and repaired, and nothing is left when it stops", async () => {
    make({ watch: watchDirectory }).start();
    await until(() => node.installer.ready && node.time.pending === 1, "it is ready");
    node.put(CONF, LIST);
    await until(() => node.time.nextInMs() === 100, "the event came");
    node.time.advance(100);
    await node.pass();
    await until(() => node.installer.ready && node.types(CONF).length === 3, "it is repaired");
    await node.stop();
    assert.equal(node.time.pending, 0);
    assert.equal(node.installer.ready, false);
  });

  test("a folder that cannot be watched is told once; the slow look goes on", async () => {
    const watch = () => {
      throw Object.assign(new Error("no watches left"), { code: "ENOSPC" });
    };
    make({ watch }).start();
    await until(() => node.installer.ready && node.time.pending === 1, "it is ready");
    node.put(CONF, LIST);
    node.time.advance(15_000);
    await until(() => node.results.length === 2, "it is repaired");
    const warnings = node.captured.lines.filter((line) => line.includes("no watches left"));
    assert.equal(new Set(warnings).size, warnings.length);
    assert.ok(warnings.length > 0);
  });
});
