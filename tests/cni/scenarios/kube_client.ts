/** The Kubernetes client against the real API server: what it sends must be what that understands, and its texts must help. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { tool as programOf } from "../../../scripts/support/tools.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { CONTROL_ADDRESSES } from "../../istiod/support/addresses.ts";
import { boundPodObject, CNI_NAME } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";

interface Failure {
  readonly status: number;
  readonly reason: string;
  readonly message: string;
}

interface Report {
  readonly told: readonly string[];
  readonly problems: readonly string[];
  readonly watched: string;
  readonly kinds: readonly string[];
  readonly namespaces: readonly number[];
  readonly missing: Failure;
  readonly forbidden: Failure;
  readonly conflict: Failure;
  readonly future: Failure;
  readonly expired: Failure;
}

scenario(
  "kube client: list, watch, patch and refusals of a real API server",
  async ({ lab, build, node, namespace }) => {
    // The compiled one runs no scripts; its agent is the test.
    if (build === "compiled") return;
    const { plane } = lab;
    const directory = join(lab.directory, `kube-checks-${build}`);
    mkdirSync(directory);
    const token = await plane.api.createToken(node.agentNamespace, CNI_NAME, node.agent.pod);
    writeFileSync(join(directory, "token"), token);
    writeFileSync(join(directory, "expired"), await node.agent.expiredToken());
    await lab.addNamespace(namespace, "none");
    await lab.addServiceAccount(namespace, "first");
    const pod = boundPodObject({ name: "first", namespace, node: namespace, serviceAccount: "first" });
    await plane.api.apply(pod);
    const script = fileURLToPath(new URL("../support/kube_checks.ts", import.meta.url));
    const runtime = build === "deno" ? [programOf("deno"), "run", "-A", "--no-check", "--quiet"] : [programOf("bun")];
    const args = [
      `https://${CONTROL_ADDRESSES[0]}:6443`,
      plane.pki.path("ca.crt"),
      join(directory, "token"),
      join(directory, "expired"),
      namespace,
    ];
    const output = await tool(lab.sandbox.command([...runtime, script, ...args], { node: "control" }));
    await plane.api.delete(pod);
    const report = JSON.parse(output.trim().split("\n").at(-1) ?? "") as Report;

    assert.deepEqual(report.problems, []);
    assert.deepEqual(report.told.slice(0, 3), ["+first", "synced", "~first grüß"]);
    assert.match(report.watched, /"type":"MODIFIED".*"checked":"grüß"/);
    assert.deepEqual(report.kinds, ["PartialObjectMetadata"]);
    assert.ok(report.namespaces.every((count) => count >= 4), report.namespaces.join());
    assert.deepEqual([report.missing.status, report.missing.reason], [404, "NotFound"]);
    assert.equal(report.forbidden.status, 403);
    assert.match(report.forbidden.message, /must grant "list" on "secrets"/);
    // How a patch for another pod of that name is refused: the agent depends on it.
    assert.deepEqual([report.conflict.status, report.conflict.reason], [422, "Invalid"]);
    assert.match(report.conflict.message, /metadata\.uid: Invalid value/);
    assert.deepEqual([report.future.status, /resource version/i.test(report.future.message)], [504, true]);
    assert.equal(report.expired.status, 401);
    assert.match(report.expired.message, /system:serviceaccount:.*:istio-cni" and expired 60 min ago/);
  },
);
