/** Objects that scenarios make. */
import type { KubeObject } from "../../istiod/support/kube_api.ts";
import { APP_IMAGE } from "./images.ts";

export const REDIRECTION = "ambient.istio.io/redirection";
export const MODE_LABEL = "istio.io/dataplane-mode";

export const STRICT: KubeObject = {
  apiVersion: "security.istio.io/v1",
  kind: "PeerAuthentication",
  metadata: { name: "strict", namespace: "mesh" },
  spec: { mtls: { mode: "STRICT" } },
};

/** The server is for this service account only. */
export function authorizationPolicy(account: string): KubeObject {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "by-identity", namespace: "mesh" },
    spec: {
      selector: { matchLabels: { app: "server" } },
      action: "ALLOW",
      rules: [{ from: [{ source: { principals: [`cluster.local/ns/mesh/sa/${account}`] } }] }],
    },
  };
}

export interface PodOptions {
  readonly labels?: Readonly<Record<string, string>>;
}

/** A pod that serves on 8080. Its name must begin with `pod-`. */
export function serverPod(namespace: string, name: string, { labels = {} }: PodOptions = {}): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app: name, ...labels } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [{
        name: "app",
        image: APP_IMAGE,
        imagePullPolicy: "Never",
        ports: [{ containerPort: 8080 }],
        readinessProbe: { httpGet: { path: "/probe", port: 8080 }, periodSeconds: 1, failureThreshold: 1 },
      }],
    },
  };
}
