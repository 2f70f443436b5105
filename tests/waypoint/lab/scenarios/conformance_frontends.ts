/** Gateway API conformance, mesh profile: to which traffic a route belongs: by address and port, not by host header, and not to other namespaces'. */
import { conformance, type Feature } from "../support/conformance.ts";
import { backend, httpRoute } from "../support/objects.ts";
import { responseHeaders, type Rule } from "../support/routes.ts";
import { httpRow } from "../support/rows.ts";
import type { LabService } from "../support/services.ts";

const marked = (value: string, service: LabService): Rule => ({
  filters: [responseHeaders({ set: { "X-Header-Set": value } })],
  backendRefs: [backend(service)],
});
const mark = (value: string | undefined) => ({ "x-header-set": value });

const frontend: Feature = {
  name: "MeshFrontend",
  ownVersions: true,
  objects: ({ v2, name }) => [httpRoute(name, v2, [marked("set", v2)])],
  rows: ({ from, v2, stage: { beta } }) => [
    httpRow("to the service", from, v2.url("http"), {}, { app: "beta", headers: mark("set") }),
    httpRow("to the pod", from, `http://${beta.pod.ip()}:8080/`, {}, { app: "beta", headers: mark(undefined) }),
  ],
};

const frontendHostname: Feature = {
  name: "MeshFrontendHostname",
  ownVersions: true,
  objects: frontend.objects,
  rows: ({ from, v1, v2 }) => [
    httpRow("the service, another's host name", from, v2.url("http"), { headers: { host: v1.name } }, {
      app: "beta",
      headers: mark("set"),
    }),
    httpRow("another service, its host name", from, v1.url("http"), { headers: { host: v2.name } }, {
      app: "alpha",
      headers: mark(undefined),
    }),
  ],
};

const ports: Feature = {
  name: "MeshPorts",
  ownVersions: true,
  objects: ({ v1, v2, name }) => [
    httpRoute(`${name}-1`, v1, [marked("v1", v1)], 80),
    httpRoute(`${name}-2`, v2, [marked("v2", v2)]),
  ],
  rows: ({ from, v1, v2 }) => [
    httpRow("the port that the route names", from, v1.url("http"), {}, { app: "alpha", headers: mark("v1") }),
    httpRow("a port that it does not name", from, v1.url("http-alt"), {}, { app: "alpha", headers: mark(undefined) }),
    httpRow("a route without a port, 80", from, v2.url("http"), {}, { app: "beta", headers: mark("v2") }),
    httpRow("a route without a port, 8080", from, v2.url("http-alt"), {}, { app: "beta", headers: mark("v2") }),
  ],
};

/** The half of it that does not need a consumer's route to be in force: istiod sends none to a waypoint. */
const consumer: Feature = {
  name: "MeshConsumerRoute, requests from elsewhere",
  ownVersions: true,
  objects: ({ v1, scene }) => {
    const namespace = `${scene.namespace}-consumer`;
    return [{ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: { name: "consumer", namespace },
      spec: {
        parentRefs: [{ group: "", kind: "Service", name: v1.name, namespace: v1.namespace }],
        rules: [{
          filters: [responseHeaders({ set: { "X-Header-Set": "set" } })],
          backendRefs: [{ ...backend(v1), namespace: v1.namespace }],
        }],
      },
    }];
  },
  rows: ({ from, v1 }) => [
    httpRow("not from the route's namespace", from, v1.url("http"), {}, { app: "alpha", headers: mark(undefined) }),
  ],
};

conformance(frontend, frontendHostname, ports, consumer);
