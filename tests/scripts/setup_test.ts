import assert from "node:assert/strict";
import { test } from "node:test";
import { outdatedPackages } from "../../scripts/setup.mjs";

const wanted = {
  packages: {
    "": { version: "0.1.0" },
    "node_modules/a": { version: "1.0.0" },
    "node_modules/@s/b": { version: "2.0.0" },
    "node_modules/other-platform": { version: "3.0.0", optional: true },
  },
};

test("setup: what is installed as locked needs nothing", () => {
  const installed = { packages: { "node_modules/a": { version: "1.0.0" }, "node_modules/@s/b": { version: "2.0.0" } } };
  assert.deepEqual(outdatedPackages(wanted, installed), []);
});

test("setup: missing and outdated packages are named, absent optional ones are not", () => {
  assert.deepEqual(outdatedPackages(wanted, undefined), ["a", "@s/b"]);
  const installed = {
    packages: { "node_modules/a": { version: "0.9.0" }, "node_modules/other-platform": { version: "2.0.0" } },
  };
  assert.deepEqual(outdatedPackages(wanted, installed), ["a", "@s/b", "other-platform"]);
});
