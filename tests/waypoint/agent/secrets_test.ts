/** Secrets of files, and the own certificate. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LocalSecrets, type SecretsChange } from "../../../src/waypoint/agent/secrets.ts";
import { VirtualTime } from "./virtual_time.ts";

function create(files: Record<string, string>) {
  const time = new VirtualTime();
  const changes: SecretsChange[] = [];
  const warnings: string[] = [];
  const secrets = new LocalSecrets({
    changed: (change) => changes.push(change),
    log: { enabled: () => true, log: (_level, _target, _message, fields) => warnings.push(String(fields?.["error"])) },
    schedule: time.schedule,
    readText: (path) => {
      if (files[path] === undefined) throw new Error(`no ${path}`);
      return files[path];
    },
  });
  return { time, changes, warnings, secrets };
}

test("secrets: the certificate and the roots come under Envoy's names", () => {
  const { changes, secrets } = create({});
  assert.equal(secrets.certified, false);
  secrets.issued({ privateKey: "K", chain: ["A", "B"], roots: ["R"] });
  assert.equal(secrets.certified, true);
  assert.deepEqual(changes, [{
    default: { kind: "certificate", chain: "AB", key: "K" },
    ROOTCA: { kind: "trust", roots: "R", crl: undefined },
  }]);
});

test("secrets: files are read when they are named, again when they change, and forgotten when they are not named any more", async () => {
  const files: Record<string, string> = { "/c": "cert", "/k": "key", "/r": "root" };
  const { time, changes, secrets } = create(files);
  const names = new Set(["default", "ROOTCA", "file-cert:/c~/k", "file-root:/r", "file-root:system"]);
  secrets.want(names);
  assert.deepEqual(changes.splice(0), [{
    "file-cert:/c~/k": { kind: "certificate", chain: "cert", key: "key" },
    "file-root:/r": { kind: "trust", roots: "root", crl: undefined },
    "file-root:system": { kind: "system trust" },
  }]);
  secrets.want(names);
  await time.advance(30_000);
  assert.deepEqual(changes, []);
  files["/r"] = "next";
  await time.advance(10_000);
  assert.deepEqual(changes.splice(0), [{ "file-root:/r": { kind: "trust", roots: "next", crl: undefined } }]);
  secrets.want(new Set(["file-root:/r"]));
  assert.deepEqual(changes, [{ "file-cert:/c~/k": null, "file-root:system": null }]);
});

test("secrets: a file that is gone leaves what it was; one that comes late is taken then", async () => {
  const files: Record<string, string> = { "/r": "root" };
  const { time, changes, warnings, secrets } = create(files);
  secrets.want(new Set(["file-root:/r", "file-cert:/c~/k"]));
  assert.equal(changes.splice(0).length, 1);
  assert.deepEqual(warnings, ["no /c"]);
  delete files["/r"];
  files["/c"] = "c";
  files["/k"] = "k";
  await time.advance(10_000);
  assert.deepEqual(changes, [{ "file-cert:/c~/k": { kind: "certificate", chain: "c", key: "k" } }]);
});

test("secrets: revocation lists come with the roots, before or after them", () => {
  const { changes, secrets } = create({});
  secrets.revoked(["L1\n", "L2\n"]);
  assert.deepEqual(changes, []);
  secrets.issued({ privateKey: "K", chain: ["A"], roots: ["R"] });
  const lists = () => {
    const last: SecretsChange = changes[changes.length - 1];
    const secret = last["ROOTCA"];
    return secret?.kind === "trust" ? secret.crl : "none";
  };
  assert.equal(lists(), "L1\nL2\n");
  secrets.revoked(["L3\n"]);
  assert.deepEqual(changes.at(-1), { ROOTCA: { kind: "trust", roots: "R", crl: "L3\n" } });
  // A renewed certificate does not take them back; an empty file does.
  secrets.issued({ privateKey: "K2", chain: ["A"], roots: ["R"] });
  assert.equal(lists(), "L3\n");
  secrets.revoked([]);
  assert.equal(lists(), undefined);
});
