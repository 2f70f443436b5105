/**
 * The mesh that `ambit local` brings up when it is given no file: the text of examples/bookstore.yaml, so that the compiled
 * program can show itself alone. A test keeps the two the same.
 */
export const DEFAULT_MESH = `# A bookstore on two nodes. Bring it up with:  ambit local examples/bookstore.yaml
# Every line may be edited while it runs. docs/local.md describes all that a mesh file can say.

nodes:
  - name: node-a
  - name: node-b

pods:
  # The shop: productpage asks reviews, reviews asks ratings, each on the other node.
  - name: productpage
    namespace: bookstore
    serviceAccount: productpage
    node: node-a
    labels: { app: productpage }
    command: exec ambit echo --port 8080 --call http://reviews/

  - name: reviews
    namespace: bookstore
    serviceAccount: reviews
    node: node-b
    labels: { app: reviews }
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

  - name: reviews
    namespace: bookstore
    selector: { app: reviews }
    ports: { 80: 8080 }

  - name: ratings
    namespace: bookstore
    selector: { app: ratings }
    ports: { 80: 8080 }

policies:
  # Only productpage may ask reviews.
  - name: reviews-for-productpage
    namespace: bookstore
    selector: { app: reviews }
    action: Allow
    rules: [[[{ serviceAccounts: [{ namespace: bookstore, serviceAccount: productpage }] }]]]

  # Nobody from outside the bookstore may ask ratings.
  - name: ratings-not-for-outsiders
    namespace: bookstore
    selector: { app: ratings }
    action: Deny
    rules: [[[{ notNamespaces: [{ Exact: bookstore }] }]]]
`;
