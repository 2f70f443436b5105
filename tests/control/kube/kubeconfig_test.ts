import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { kubeconfigText, readKubeconfig, redactedKubeconfig } from "../../../src/control/kube/kubeconfig.ts";

const CA = "-----BEGIN CERTIFICATE-----\nZ3JvZXNzZXI=\n-----END CERTIFICATE-----\n";
const SOURCE = { server: "https://10.0.0.1:443", ca: CA, token: "top-secret" };

const FOREIGN = `
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: https://[fd00::1]:443
    certificate-authority-data: "${btoa(CA)}"
users:
- name: istio-cni
  user:
    token: "abc"
contexts:
- name: istio-cni-context
  context:
    cluster: local
    user: istio-cni
current-context: istio-cni-context
`;

describe("kubeconfig", () => {
  test("what is written is read back, as JSON and as YAML", async () => {
    const text = kubeconfigText(SOURCE);
    for (const form of [text, JSON.stringify(parse(text))]) {
      const { server, ca, skipTlsVerify, token } = await readKubeconfig(form);
      assert.deepEqual([server, ca, skipTlsVerify, await token()], [SOURCE.server, CA, false, "top-secret"]);
    }
    const { ca, skipTlsVerify } = await readKubeconfig(kubeconfigText({ ...SOURCE, ca: undefined }));
    assert.deepEqual([ca, skipTlsVerify], [undefined, true]);
  });

  test("has the names that tools know from Istio", () => {
    assert.deepEqual(JSON.parse(kubeconfigText(SOURCE)), {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "local", cluster: { server: SOURCE.server, "certificate-authority-data": btoa(CA) } }],
      users: [{ name: "istio-cni", user: { token: "top-secret" } }],
      contexts: [{ name: "istio-cni-context", context: { cluster: "local", user: "istio-cni" } }],
      "current-context": "istio-cni-context",
    });
  });

  test("for the log it has no secrets", () => {
    const shown = redactedKubeconfig(SOURCE);
    assert.ok(!shown.includes("top-secret") && !shown.includes(btoa(CA)));
    assert.ok(shown.includes(SOURCE.server));
  });

  test("Istio's own YAML is read", async () => {
    const { server, ca, token } = await readKubeconfig(FOREIGN);
    assert.deepEqual([server, ca, await token()], ["https://[fd00::1]:443", CA, "abc"]);
  });

  test("what is missing, wrong or not supported is named", async () => {
    const change = (find: string | RegExp, replace: string) => FOREIGN.replace(find, replace);
    const cases: [string, RegExp][] = [
      ["", /kubeconfig is no object/],
      ["[]", /kubeconfig is no object/],
      ["{", /neither JSON nor YAML/],
      ["a: b: c", /neither JSON nor YAML/],
      [change("current-context: istio-cni-context", ""), /kubeconfig has no current-context/],
      [change("current-context: istio-cni-context", "current-context: other"), /contexts has no "other"/],
      [change(/clusters:\n/, "nothing:\n"), /clusters must be a list/],
      [change(/ {4}server: .*\n/, ""), /cluster has no server/],
      [change(/token: .*/, "token: [1]"), /user.token must be text/],
      [change(/token: .*/, "client-certificate-data: x"), /user.client-certificate-data is not supported/],
      [
        change(/certificate-authority-data: .*/, "certificate-authority: /x"),
        /cluster.certificate-authority is not supported/,
      ],
      [change(/certificate-authority-data: .*/, 'certificate-authority-data: "%"'), /no base64/],
    ];
    for (const [text, expected] of cases) await assert.rejects(readKubeconfig(text), expected);
  });
});
