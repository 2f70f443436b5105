/**
 * The mesh that `ambit local` brings up when it is given no file: the text of examples/bookstore.yaml, so that the compiled
 * program can show itself alone. A test keeps the two the same.
 */
export const DEFAULT_MESH = `# A bookstore on two nodes. Bring it up with:  ambit local examples/bookstore.yaml
# Every line may be edited while it runs. docs/local.md describes all that a mesh file can say.
# The first document is the machine's mesh; those after it are objects as written for Kubernetes.

nodes:
  - name: node-a
  - name: node-b

pods:
  # The shop: productpage asks reviews, of which there are two versions, and reviews asks ratings.
  - name: productpage
    namespace: bookstore
    serviceAccount: productpage
    node: node-a
    labels: { app: productpage }
    command: exec ambit echo --port 8080 --call http://reviews/

  - name: reviews-v1
    namespace: bookstore
    serviceAccount: reviews
    node: node-b
    labels: { app: reviews, version: v1 }
    command: exec ambit echo --port 8080 --call http://ratings/

  - name: reviews-v2
    namespace: bookstore
    serviceAccount: reviews
    node: node-b
    labels: { app: reviews, version: v2 }
    command: exec ambit echo --port 8080 --call http://ratings/

  - name: ratings
    namespace: bookstore
    serviceAccount: ratings
    node: node-a
    labels: { app: ratings }
    command: exec ambit echo --port 8080

  # Its visitors: one in the mesh, one outside of it. Run something in them with: ambit local exec shopper -- curl ...
  - name: shopper
    namespace: street
    serviceAccount: shopper
    node: node-b

  - name: stranger
    namespace: street
    node: node-b
    captured: false

services:
  - name: productpage
    namespace: bookstore
    selector: { app: productpage }
    ports: { 80: 8080 }

  # What is asked of reviews passes the waypoint, which sends it on to one of the versions.
  - name: reviews
    namespace: bookstore
    labels: { istio.io/use-waypoint: waypoint }
    selector: { app: reviews }
    ports: { 80: 8080 }

  - name: reviews-v1
    namespace: bookstore
    selector: { app: reviews, version: v1 }
    ports: { 80: 8080 }

  - name: reviews-v2
    namespace: bookstore
    selector: { app: reviews, version: v2 }
    ports: { 80: 8080 }

  - name: ratings
    namespace: bookstore
    selector: { app: ratings }
    ports: { 80: 8080 }

policies:
  # Nobody goes past the waypoint.
  - name: reviews-through-waypoint
    namespace: bookstore
    selector: { app: reviews }
    action: Allow
    rules: [[[{ serviceAccounts: [{ namespace: bookstore, serviceAccount: waypoint }] }]]]

  # Nobody from outside the bookstore may ask ratings.
  - name: ratings-not-for-outsiders
    namespace: bookstore
    selector: { app: ratings }
    action: Deny
    rules: [[[{ notNamespaces: [{ Exact: bookstore }] }]]]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: waypoint
  namespace: bookstore
spec:
  gatewayClassName: istio-waypoint
  listeners:
    - name: mesh
      port: 15008
      protocol: HBONE
---
# Testers see the new version.
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: reviews
  namespace: bookstore
spec:
  parentRefs:
    - { group: "", kind: Service, name: reviews, port: 80 }
  rules:
    - matches:
        - headers:
            - { name: x-tester, value: "yes" }
      backendRefs:
        - { name: reviews-v2, port: 80 }
    - backendRefs:
        - { name: reviews-v1, port: 80 }
---
# Only productpage may ask reviews,
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: reviews-for-productpage
  namespace: bookstore
spec:
  targetRefs:
    - { group: "", kind: Service, name: reviews }
  action: ALLOW
  rules:
    - from:
        - source:
            principals: [cluster.local/ns/bookstore/sa/productpage]
---
# and nobody may write to it.
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: reviews-read-only
  namespace: bookstore
spec:
  targetRefs:
    - { group: "", kind: Service, name: reviews }
  action: DENY
  rules:
    - to:
        - operation:
            notMethods: [GET, HEAD]
`;
