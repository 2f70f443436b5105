/** RequestAuthentication (reference waypoint 3.4): where tokens are found, how they are judged, and what the application is told of them. */
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import { authorityOf, fetched } from "../support/authority.ts";
import { istioObject, servicePolicy } from "../support/objects.ts";
import { expectRows, httpRow, type Wanted } from "../support/rows.ts";
import { scenario } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import { bearer, Issuer, payloadOf, unsignedToken } from "../support/tokens.ts";

const DENIED: Wanted = { status: 403, body: "RBAC: access denied" };
const refused = (body: string | RegExp): Wanted => ({ status: 401, body, headers: { "x-app": undefined } });
const NOT_VERIFIED = refused("Jwt verification fails");

const inline = new Issuer("https://inline.example.com", "RS256");
const elsewhere = new Issuer("https://elsewhere.example.com");
const unreachable = new Issuer("https://unreachable.example.com");
const stranger = new Issuer("https://stranger.example.com");
/** Says to be `inline` and has keys of its own. */
const impostor = new Issuer(inline.name, "RS256");

function tokens(service: LabService, ...jwtRules: readonly Readonly<Record<string, unknown>>[]): KubeObject {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "RequestAuthentication",
    metadata: { name: service.name, namespace: service.namespace },
    spec: { targetRefs: [{ group: "", kind: "Service", name: service.name }], jwtRules },
  };
}

scenario("policies: tokens, inline and fetched keys, and every place that they come from", async (scene) => {
  const { client, alpha, beta } = await scene.stage();
  const authority = await authorityOf(scene);
  const service = (name: string) => scene.addService(name, { pods: [alpha] });
  const [open, closed, remote, broken, garbled, claimed] = [
    await service("open"),
    await service("closed"),
    await service("remote"),
    await service("broken"),
    await service("garbled"),
    await service("claimed"),
  ];
  const there = await scene.addService("there", { pods: [beta] });
  const rule = (issuer: Issuer) => ({ issuer: issuer.name, jwks: issuer.keySet });
  await scene.apply(
    tokens(
      open,
      {
        ...rule(inline),
        audiences: ["shop", "bar"],
        forwardOriginalToken: true,
        outputPayloadToHeader: "x-payload",
        outputClaimToHeaders: [{ header: "x-sub", claim: "sub" }, { header: "x-level", claim: "level" }, {
          header: "x-deep",
          claim: "a.b",
        }],
      },
      {
        ...rule(elsewhere),
        fromHeaders: [{ name: "x-token", prefix: "Token " }],
        fromParams: ["token"],
        fromCookies: ["session"],
      },
    ),
    tokens(closed, rule(inline)),
    servicePolicy(closed.name, closed, {
      action: "ALLOW",
      rules: [{ from: [{ source: { requestPrincipals: ["*"] } }] }],
    }),
    tokens(remote, { issuer: fetched.name, jwksUri: `http://${authority.hostname}:8001/keys` }),
    tokens(garbled, { issuer: inline.name, jwks: "{ no keys" }),
    tokens(claimed, rule(inline)),
    istioObject("VirtualService", claimed.namespace, claimed.name, {
      hosts: [claimed.hostname],
      http: [
        {
          match: [{ headers: { "@request.auth.claims.group": { exact: "admin" } } }],
          route: [{ destination: { host: there.hostname, port: { number: 80 } } }],
        },
        { route: [{ destination: { host: claimed.hostname, port: { number: 80 } } }] },
      ],
    }),
    tokens(broken, { issuer: unreachable.name, jwksUri: `http://${authority.hostname}:8001/nothing` }),
  );

  const row = (name: string, to: LabService, headers: Readonly<Record<string, string>>, wanted: Wanted, path = "/") =>
    httpRow(name, client, to.url("http", path), { headers }, wanted);
  const shop = { aud: "shop" };
  const good = inline.token({ ...shop, level: 7, a: { b: "c" } });
  const payload = Buffer.from(JSON.stringify(payloadOf(good))).toString("base64url");
  const other = elsewhere.token();
  const seconds = Math.floor(Date.now() / 1000);
  const app: Wanted = { app: "alpha" };
  const told = { "x-payload": payload, "x-sub": "ann", "x-level": "7", "x-deep": "c", authorization: `Bearer ${good}` };
  const cut = good.slice(0, good.lastIndexOf("."));
  await expectRows([
    row("no token, none is asked for", open, {}, app),
    row("a token, handed on, its claims in headers", open, bearer(good), { app: "alpha", got: told }),
    row("a client's own claim headers do not pass", open, { ...bearer(good), "x-sub": "root" }, {
      app: "alpha",
      got: { "x-sub": "ann" },
    }),
    row("one of several audiences", open, bearer(inline.token({ aud: ["x", "bar"] })), app),
    row("another audience", open, bearer(inline.token({ aud: "other" })), {
      status: 403,
      body: "Audiences in Jwt are not allowed",
    }),
    row("no audience", open, bearer(inline.token()), { status: 403, body: "Audiences in Jwt are not allowed" }),
    row("expired", open, bearer(inline.token({ ...shop, exp: seconds - 300 })), {
      ...refused("Jwt is expired"),
      headers: { "www-authenticate": `Bearer realm="http://${open.vip}/", error="invalid_token"` },
    }),
    row("expired within the skew", open, bearer(inline.token({ ...shop, exp: seconds - 20 })), app),
    row("not yet", open, bearer(inline.token({ ...shop, nbf: seconds + 300 })), refused("Jwt not yet valid")),
    row("another issuer", open, bearer(stranger.token(shop)), refused("Jwt issuer is not configured")),
    row("another's key", open, bearer(impostor.token(shop)), NOT_VERIFIED),
    row("the claims of another token", open, bearer(swap(good, { ...payloadOf(good), sub: "root" })), NOT_VERIFIED),
    row(
      "no signature, alg none",
      open,
      bearer(unsignedToken({ iss: inline.name, sub: "ann", ...shop, exp: seconds + 300 })),
      { status: 401 },
    ),
    row(
      "two parts",
      open,
      bearer(cut),
      refused("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
    ),
    row("no JSON", open, bearer("a.b.c"), { status: 401 }),
    row("from a header with a prefix", open, { "x-token": `Token ${other}` }, {
      app: "alpha",
      got: { "x-token": undefined },
    }),
    row(
      "a bad one in that header",
      open,
      { "x-token": `Token ${stranger.token()}` },
      refused("Jwt issuer is not configured"),
    ),
    row("from a parameter", open, {}, app, `/?a=b&token=${other}`),
    row("a bad one in a parameter", open, {}, { status: 401 }, `/?token=${stranger.token()}`),
    row("from a cookie", open, { cookie: `a=b; session=${other}` }, app),
    row("a bad one in a cookie", open, { cookie: `session=${elsewhere.token({ exp: seconds - 300 })}` }, {
      status: 401,
    }),
    row("where its issuer's are not looked for", open, bearer(other), { status: 401 }),
    row("a policy asks for one: none", closed, {}, DENIED),
    row("a policy asks for one: it is there, and is not handed on", closed, bearer(inline.token()), {
      app: "alpha",
      got: { authorization: undefined },
    }),
    row("a policy asks for one: a bad one", closed, bearer(impostor.token()), NOT_VERIFIED),
    row("a policy asks for one: a parameter", closed, {}, app, `/?access_token=${inline.token()}`),
    row("fetched keys", remote, bearer(fetched.token()), app),
    row("fetched keys, another's key", remote, bearer(new Issuer(fetched.name).token()), NOT_VERIFIED),
    row("fetched keys, no token", remote, {}, app),
    row("keys that cannot be had", broken, bearer(unreachable.token()), refused("Jwks remote fetch is failed")),
    row("keys that are none", garbled, bearer(inline.token()), { status: 401, headers: { "x-app": undefined } }),
    row("keys that are none, no token", garbled, {}, app),
    row("a route by a claim", claimed, bearer(inline.token({ group: "admin" })), { app: "beta" }),
    row("a route by a claim, another claim", claimed, bearer(inline.token({ group: "guest" })), app),
    row("a route by a claim, no token", claimed, {}, app),
    row("a route by a claim, a header of its name", claimed, { "request.auth.claims.group": "admin" }, app),
    row("keys that cannot be had, no token", broken, {}, app),
  ], 60_000);
}, { sideBySide: true });

/** Other claims under the same signature. */
function swap(token: string, claims: Readonly<Record<string, unknown>>): string {
  const [header, , signature] = token.split(".");
  return `${header}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.${signature}`;
}
