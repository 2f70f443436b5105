/** However `ambit local` ends, nothing of it stays on the machine. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { MeshProcess } from "../../scripts/demo/mesh_process.ts";
import { runTool, tool } from "../../src/local/run_tool.ts";
import { processesOf, waitUntilGone } from "./support/local_processes.ts";

/** What a mesh could have left on the machine's own network. */
async function network(): Promise<string> {
  const links = JSON.parse(await tool(["ip", "-j", "link"])) as { ifname: string }[];
  const rules = [await tool(["ip", "rule"]), await tool(["ip", "-6", "rule"]), await tool(["ip", "netns", "list"])];
  return [...links.map((link) => link.ifname), ...rules, await tool(["nft", "list", "tables"])].join("\n");
}

test("local: Ctrl-C leaves no process, namespace, device, rule or file", async () => {
  const before = await network();
  const mesh = await MeshProcess.start([]);
  try {
    await mesh.up();
    assert.ok((await processesOf(mesh)).length >= 6);
    assert.equal(await network(), before, "even a running mesh does not show outside");
    assert.equal(await mesh.end("SIGINT"), 0);
    assert.deepEqual(await processesOf(mesh), []);
    assert.deepEqual(await mesh.leftOvers(), []);
    assert.equal(await network(), before);
  } finally {
    await mesh.dispose();
  }
});

test("local: a SIGKILL leaves no process either, and the next run takes the files away", async () => {
  const before = await network();
  const mesh = await MeshProcess.start([]);
  try {
    await mesh.up();
    await mesh.end("SIGKILL");
    await waitUntilGone(mesh);
    assert.equal(await network(), before);
    const [left, ...others] = await mesh.leftOvers();
    assert.ok(left !== undefined && others.length === 0);

    const next = await MeshProcess.start([], { env: { TMPDIR: mesh.temporary } });
    try {
      await next.up();
      assert.ok(!(await mesh.leftOvers()).includes(left));
      assert.equal(await next.end("SIGTERM"), 0);
      assert.deepEqual(await mesh.leftOvers(), []);
    } finally {
      await next.dispose();
    }
  } finally {
    await mesh.dispose();
  }
});

test("local: a ztunnel that is killed comes back, and traffic passes again", async () => {
  const mesh = await MeshProcess.start([]);
  try {
    await mesh.up();
    await mesh.line((line) => line.includes("ratings listens"));
    const mark = mesh.lines.length;
    const ztunnels = (await processesOf(mesh)).filter(({ command }) => /\0ztunnel\0$/.test(command));
    assert.equal(ztunnels.length, 2);
    for (const { pid } of ztunnels) process.kill(pid, "SIGKILL");
    for (const node of ["node-a", "node-b"]) {
      await mesh.line(
        (line) => line.includes(`the ztunnel of ${node} ended: killed by SIGKILL; starting it again`),
        mark,
      );
    }
    for (const pod of ["productpage", "reviews-v1", "ratings", "shopper"]) {
      await mesh.line((line) => line.includes("pod served") && line.includes(`/${pod}"`), mark);
    }
    const { stdout, stderr } = await mesh.exec("shopper", ["curl", "-sS", "-m", "10", "http://productpage/"]);
    assert.match(stdout, /"service":"ratings"/, stderr);
    assert.equal(await mesh.end("SIGTERM"), 0);
  } finally {
    await mesh.dispose();
  }
});

test("local: a start that fails midway says why, and leaves nothing", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-path-"));
  const before = await network();
  try {
    // Everything but nft, which is needed only after the namespaces are made.
    await mkdir(join(directory, "bin"));
    for (const name of ["ip", "unshare", "nsenter", "mount", "umount", "sh", "true"]) {
      await symlink((await tool(["which", name])).trim(), join(directory, "bin", name));
    }
    const mesh = await MeshProcess.start([], { env: { PATH: join(directory, "bin") } });
    try {
      assert.equal(await mesh.exited, 1);
      assert.match(mesh.lines.join("\n"), /nft/);
      assert.deepEqual(await mesh.leftOvers(), []);
      await waitUntilGone(mesh);
      assert.equal(await network(), before);
    } finally {
      await mesh.dispose();
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("local: a bad file, and one that is not there, end the start with exit code 1 and the place", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-bad-"));
  const path = join(directory, "mesh.yaml");
  await writeFile(path, "nodes:\n  - name: a\npods:\n  - name: p\n    node: b\n");
  try {
    for (
      const [file, words] of [[path, `${path}:5:5: there is no node "b"`], [join(directory, "none.yaml"), "none.yaml"]]
    ) {
      const mesh = await MeshProcess.start([file!]);
      try {
        assert.equal(await mesh.exited, 1);
        assert.ok(mesh.lines.join("\n").includes(words!), mesh.lines.join("\n"));
        assert.deepEqual(await mesh.leftOvers(), []);
      } finally {
        await mesh.dispose();
      }
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("local: works without root, in a user namespace of its own", async () => {
  // An ordinary user: no capability, and a number that is not 0.
  const prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
  const id = await runTool([...prefix, "id", "-u"]);
  assert.equal(id.stdout.trim(), "1000", id.stderr);
  const mesh = await MeshProcess.start([], { prefix });
  try {
    await mesh.up();
    await mesh.line((line) => line.includes("ratings listens"));
    await mesh.line((line) => line.includes("reviews-v1 listens"));
    await mesh.line((line) => line.includes("productpage listens"));
    const { stdout, stderr } = await mesh.exec("shopper", ["curl", "-sS", "-m", "10", "http://productpage/"]);
    assert.match(stdout, /"service":"ratings"/, stderr);
    assert.equal(await mesh.end("SIGINT"), 0);
    assert.deepEqual(await mesh.leftOvers(), []);
  } finally {
    await mesh.dispose();
  }
});
