/** To what a policy is attached (reference waypoint 3.1): one service, all of a Gateway, all of a class; and which policies are not for a waypoint. */
import { authorizationPolicy } from "../../../istiod/support/objects.ts";
import { servicePolicy } from "../support/objects.ts";
import { expectRows, httpRow, type Wanted } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";

const DENIED: Wanted = { status: 403, body: "RBAC: access denied" };
const ALLOWED: Wanted = { app: "behind" };
const GATEWAY_API = "gateway.networking.k8s.io";

const deny = (path: string) => ({ action: "DENY", rules: [{ to: [{ operation: { paths: [`${path}/*`] } }] }] });

scenario(
  "policies: targets: a service, a Gateway, a class, pods behind a waypoint, and none of these",
  async (scene) => {
    const { namespace, build } = scene;
    const { client } = await scene.stage();
    const waypoint = await scene.addWaypoint({ labels: { "istio.io/waypoint-for": "all" } });
    const place = { namespace, waypoint: waypoint.name };
    const [behind] = await scene.addApps({
      name: "behind",
      namespace,
      node: scene.b,
      labels: { "istio.io/use-waypoint": waypoint.name },
    });
    const one = await scene.addService("one", { ...place, pods: [behind!] });
    const two = await scene.addService("two", { ...place, pods: [behind!] });
    const classPath = `/class-${build}-${scene.number}`;
    const at = (kind: string, name: string, group = GATEWAY_API) => ({ targetRefs: [{ group, kind, name }] });
    await scene.lab.addNamespace(`${namespace}-else`);
    await scene.apply(
      servicePolicy("one", one, deny("/service")),
      authorizationPolicy(namespace, "gateway", { ...at("Gateway", waypoint.name), ...deny("/gateway") }),
      authorizationPolicy("istio-system", `class-${build}`, {
        ...at("GatewayClass", "istio-waypoint"),
        ...deny(classPath),
      }),
      // Not from the root namespace, where there is no such service, or where it is nobody's business.
      authorizationPolicy(namespace, "class", { ...at("GatewayClass", "istio-waypoint"), ...deny("/no-class") }),
      authorizationPolicy(`${namespace}-else`, "one", { ...at("Service", one.name, ""), ...deny("/elsewhere") }),
      authorizationPolicy(namespace, "another", { ...at("Gateway", "another"), ...deny("/another") }),
    );
    const pod = `http://${behind!.pod.ip()}:8080`;
    const row = (name: string, url: string, wanted: Wanted) => httpRow(name, client, url, {}, wanted);
    await expectRows([
      row("its service", one.url("http", "/service/a"), DENIED),
      row("another service", two.url("http", "/service/a"), ALLOWED),
      row("a port whose protocol is found out", one.url("any", "/service/a"), DENIED),
      row("a Gateway, one service", one.url("http", "/gateway/a"), DENIED),
      row("a Gateway, another", two.url("http", "/gateway/a"), DENIED),
      row("a Gateway, a pod's own address", `${pod}/gateway/a`, DENIED),
      row("a service's policy, a pod's own address", `${pod}/service/a`, ALLOWED),
      row("a class", two.url("http", `${classPath}/a`), DENIED),
      row("a class, a pod's own address", `${pod}${classPath}/a`, DENIED),
      row("a class, not from the root namespace", one.url("http", "/no-class/a"), ALLOWED),
      row("a service, from another namespace", one.url("http", "/elsewhere/a"), ALLOWED),
      row("another Gateway", one.url("http", "/another/a"), ALLOWED),
    ], 60_000);
  },
  { sideBySide: true },
);
