import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { loadLocalXds } from "../../../src/control/local_file/mod.ts";

const yaml = (text: string) => loadLocalXds({ kind: "yaml", text });

const MESH = `
workloads:
- name: web
  namespace: default
  uid: cluster1//Pod/default/web
  workloadIps: [10.0.0.1]
  protocol: HBONE
  services:
    default/shop.default.svc: { 80: 8080 }
services:
- name: shop
  namespace: default
  hostname: shop.default.svc
  vips: [/10.96.0.1]
  ports: { 80: 8080 }
policies:
- { name: p, namespace: default, scope: Namespace, action: Deny, rules: [[[{ notPrincipals: [{ Presence: [] }] }]]] }
`;

test("local_file: reads ztunnel's local vocabulary", async () => {
  const mesh = (await yaml(MESH))!;
  assert.deepEqual(mesh.workloads.map(({ uid, services }) => [uid, services]), [
    ["cluster1//Pod/default/web", { "default/shop.default.svc": { 80: 8080 } }],
  ]);
  assert.deepEqual(mesh.services.map(({ vips }) => vips), [["/10.96.0.1"]]);
  assert.deepEqual(mesh.policies.map(({ action }) => action), ["Deny"]);
});

test("local_file: nothing given is nothing, an empty text is an empty mesh", async () => {
  assert.equal(await loadLocalXds({ kind: "none" }), undefined);
  for (const text of ["", "# nothing\n", "{}"]) {
    assert.deepEqual(await yaml(text), { workloads: [], services: [], policies: [] });
  }
});

test("local_file: a field that is not known, or not usable, ends the start, with its place", async () => {
  await assert.rejects(yaml(`workloads:\n- name: web\n  namespace: default\n  nmae: x\n`), (error: Error) => {
    assert.match(error.message, /LOCAL_XDS is not usable/);
    assert.match(error.message, /LOCAL_XDS:4:3: workloads\[0\]\.nmae: unknown field "nmae": did you mean "name"\?/);
    return true;
  });
  await assert.rejects(
    yaml("policies:\n- name: p\n  namespace: n\n  scope: Everything\n  action: Deny\n"),
    /policies\[0\]\.scope/,
  );
  await assert.rejects(yaml("workloads: ["), /LOCAL_XDS:\d+:\d+: /);
  await assert.rejects(yaml("just text"), /the file: expected fields/);
});

test("local_file: of many problems some are told, and how many there are", async () => {
  const text = `services:\n${Array.from({ length: 14 }, (_, i) => `- { name: s${i}, wrong: 1 }\n`).join("")}`;
  await assert.rejects(yaml(text), (error: Error) => {
    assert.equal(error.message.split("\n").length, 12);
    assert.match(error.message, /and \d+ more$/);
    return true;
  });
});

test("local_file: reads a file, and says which one it cannot", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ambit-local-xds-"));
  try {
    const path = join(directory, "mesh.yaml");
    writeFileSync(path, MESH);
    assert.equal((await loadLocalXds({ kind: "file", path }))?.workloads.length, 1);
    writeFileSync(path, "workloads: 7");
    await assert.rejects(loadLocalXds({ kind: "file", path }), (error: Error) => error.message.includes(`${path}:1:`));
    await assert.rejects(
      loadLocalXds({ kind: "file", path: join(directory, "none") }),
      /LOCAL_XDS_PATH: cannot read .*none/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
