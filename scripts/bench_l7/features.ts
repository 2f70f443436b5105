/**
 * The services of the benchmark and what lies on each, as Kubernetes objects:
 *
 * - `plain`: nothing;
 * - `five`, `thousand`: so many HTTPRoute rules by path prefix, of which the last, `/`, is the one that requests take;
 * - `full`: five rules, an ALLOW policy by client identity, method, path and token, a RequestAuthentication, and the access log.
 */
import { generateKeyPairSync, sign } from "node:crypto";
import type { KubeObject } from "../../tests/istiod/support/kube_api.ts";
import { NAMESPACE, PORTS } from "./mesh.ts";

export const SERVICES = ["plain", "full", "five", "thousand"] as const;
export type ServiceName = typeof SERVICES[number];

/** The API takes no more of them in one HTTPRoute. */
const RULES_PER_OBJECT = 16;
const ISSUER = "bench.example";
const TOKEN_SECONDS = 86_400;

const service = (name: ServiceName) => ({ group: "", kind: "Service", name });

/** Routes by prefix on one port, the last of them `/`. */
function routes(name: ServiceName, count: number, port: number): KubeObject[] {
  const rules = Array.from({ length: count }, (_, i) => {
    const last = i === count - 1;
    return {
      matches: [{ path: { type: "PathPrefix", value: last ? "/" : `/route/${i}` } }],
      filters: [{
        type: "RequestHeaderModifier",
        requestHeaderModifier: { set: [{ name: "x-route", value: String(i) }] },
      }],
      backendRefs: [{ name, port }],
    };
  });
  const objects: KubeObject[] = [];
  for (let at = 0; at < count; at += RULES_PER_OBJECT) {
    objects.push(routeObject(`${name}-${port}-${at}`, name, port, rules.slice(at, at + RULES_PER_OBJECT)));
  }
  return objects;
}

function routeObject(objectName: string, name: ServiceName, port: number, rules: readonly object[]): KubeObject {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: objectName, namespace: NAMESPACE },
    spec: { parentRefs: [{ ...service(name), port }], rules },
  } as KubeObject;
}

/** What lies on the services, and a token that `full` accepts. */
export function features(): { readonly objects: readonly KubeObject[]; readonly token: string } {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: "bench", alg: "RS256", use: "sig" };
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const nowSeconds = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, sub: "client", iat: nowSeconds, exp: nowSeconds + TOKEN_SECONDS };
  const signed = `${encode({ alg: "RS256", kid: "bench", typ: "JWT" })}.${encode(claims)}`;
  const token = `${signed}.${sign("sha256", Buffer.from(signed), privateKey).toString("base64url")}`;
  const meta = (name: string) => ({ name, namespace: NAMESPACE });
  const objects = [
    ...Object.values(PORTS).flatMap((port) => [
      ...routes("five", 5, port),
      ...routes("thousand", 1000, port),
      ...routes("full", 5, port),
    ]),
    {
      apiVersion: "security.istio.io/v1",
      kind: "RequestAuthentication",
      metadata: meta("full"),
      spec: {
        targetRefs: [service("full")],
        jwtRules: [{ issuer: ISSUER, jwks: JSON.stringify({ keys: [jwk] }), forwardOriginalToken: true }],
      },
    },
    {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: meta("full"),
      spec: {
        targetRefs: [service("full")],
        action: "ALLOW",
        rules: [
          {
            from: [{ source: { principals: ["cluster.local/ns/demo/sa/other"] } }],
            to: [{ operation: { methods: ["POST"], paths: ["/api/*"] } }],
          },
          {
            from: [{
              source: { principals: ["cluster.local/ns/demo/sa/client"], requestPrincipals: [`${ISSUER}/client`] },
            }],
            to: [{ operation: { methods: ["GET"], paths: ["/", "/api/*"] } }],
          },
        ],
      },
    },
    {
      apiVersion: "telemetry.istio.io/v1",
      kind: "Telemetry",
      metadata: meta("full"),
      spec: { targetRefs: [service("full")], accessLogging: [{ providers: [{ name: "envoy" }] }] },
    },
  ] as KubeObject[];
  return { objects, token };
}
