/** AuthorizationPolicy on TCP (reference waypoint 3.2): what a connection can be told by, as ALLOW and as DENY, and what becomes of HTTP's matches. */
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import { PORTS } from "../apps/protocol.ts";
import { servicePolicy } from "../support/objects.ts";
import { expectRows, type Row } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import type { AppPod } from "../support/stage.ts";
import { tcpRow } from "../support/tcp_rows.ts";

type Parts = Readonly<Record<string, unknown>>;

/** A rule beside its port, who meets it, and who does not. */
type TcpCase = readonly [name: string, rule: Parts, met: readonly AppPod[], unmet: readonly AppPod[]];

const FIRST_PORT = 9100;
/** In no policy. */
const FREE_PORT = 9099;

function cases(client: AppPod, stranger: AppPod, outsider: AppPod, vip: string): readonly TcpCase[] {
  const { namespace } = client.pod;
  const of = (parts: Parts): Parts => ({ from: [{ source: parts }] });
  const when = (key: string, parts: Parts): Parts => ({ when: [{ key, ...parts }] });
  const ip = client.pod.ip();
  return [
    ["the port alone", {}, [client, stranger, outsider], []],
    ["principals", of({ principals: [`cluster.local/ns/${namespace}/sa/client`] }), [client], [stranger, outsider]],
    ["principals, suffix", of({ principals: ["*/sa/stranger"] }), [stranger], [client]],
    ["notPrincipals", of({ notPrincipals: ["*/sa/client"] }), [stranger, outsider], [client]],
    ["namespaces", of({ namespaces: [outsider.pod.namespace] }), [outsider], [client]],
    ["notNamespaces", of({ notNamespaces: [outsider.pod.namespace] }), [client], [outsider]],
    ["serviceAccounts", of({ serviceAccounts: [`${namespace}/client`] }), [client], [stranger]],
    ["ipBlocks", of({ ipBlocks: [`${ip}/32`] }), [client], [stranger]],
    ["notIpBlocks", of({ notIpBlocks: [ip] }), [stranger], [client]],
    ["remoteIpBlocks", of({ remoteIpBlocks: [ip] }), [client], [stranger]],
    ["when source.ip", when("source.ip", { values: [ip] }), [client], [stranger]],
    ["when source.namespace", when("source.namespace", { notValues: [namespace] }), [outsider], [client]],
    ["when source.principal", when("source.principal", { values: ["*/sa/client"] }), [client], [stranger]],
    ["when destination.ip", when("destination.ip", { values: [vip] }), [client], []],
    ["when destination.port", when("destination.port", { values: ["1"] }), [], [client]],
  ];
}

/** What only HTTP has: no rule that allows can be met, and one that denies is met by all. */
const OF_HTTP: readonly (readonly [name: string, operation: Parts, more: Parts])[] = [
  ["methods", { methods: ["GET"] }, {}],
  ["paths", { paths: ["/a"] }, {}],
  ["hosts", { hosts: ["a.example.com"] }, {}],
  ["request.headers", {}, { when: [{ key: "request.headers[x-a]", values: ["b"] }] }],
  ["requestPrincipals", {}, { from: [{ source: { requestPrincipals: ["*"] } }] }],
];

scenario("policies: connections, as ALLOW and as DENY", async (scene) => {
  const { client, stranger, alpha } = await scene.stage();
  const [outsider] = await scene.addApps({ name: "outsider", namespace: `${scene.namespace}-out`, node: scene.a });
  const port = (port: number) => ({ name: `tcp-${port}`, port, target: PORTS.echo });
  const count = cases(client, stranger, outsider!, "").length + OF_HTTP.length;
  const ports = [port(FREE_PORT), ...Array.from({ length: count }, (_, i) => port(FIRST_PORT + i))];
  const rows: Row[] = [];
  const objects: KubeObject[] = [];
  for (const action of ["ALLOW", "DENY"] as const) {
    const service = await scene.addService(`tcp-${action.toLowerCase()}`, { pods: [alpha], ports });
    const [met, unmet] = action === "ALLOW" ? ["alpha", undefined] : [undefined, "alpha"];
    let next = FIRST_PORT;
    const add = (rule: Parts, operation: Parts = {}): number => {
      const port = next++;
      const to = [{ operation: { ...operation, ports: [String(port)] } }];
      objects.push(policy(service, action, port, { ...rule, to }));
      return port;
    };
    for (const [name, rule, those, others] of cases(client, stranger, outsider!, service.vip)) {
      const port = add(rule);
      for (const from of those) rows.push(tcpRow(`${action} ${name}, ${from.pod.name}`, from, service, port, met));
      for (const from of others) {
        rows.push(tcpRow(`${action} ${name}, not ${from.pod.name}`, from, service, port, unmet));
      }
    }
    for (const [name, operation, more] of OF_HTTP) {
      rows.push(tcpRow(`${action} by ${name} alone`, client, service, add(more, operation), undefined));
    }
    rows.push(tcpRow(`${action}, a port in no policy`, client, service, FREE_PORT, unmet));
  }
  const quiet = await scene.addService("tcp-quiet", { pods: [alpha], ports: [port(FREE_PORT)] });
  const dry = policy(quiet, "DENY", 1, {});
  objects.push(policy(quiet, "AUDIT", 0, {}), {
    ...dry,
    metadata: { ...dry.metadata, annotations: { "istio.io/dry-run": "true" } },
  });
  rows.push(tcpRow("AUDIT and dry runs change nothing", client, quiet, FREE_PORT, "alpha"));
  await scene.apply(...objects);
  await expectRows(rows, 60_000);
}, { sideBySide: true });

function policy(service: LabService, action: string, id: number, rule: Parts): KubeObject {
  return servicePolicy(`${service.name}-${id}`, service, { action, rules: [rule] });
}
