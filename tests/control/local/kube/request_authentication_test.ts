import assert from "node:assert/strict";
import { test } from "node:test";
import { accept, expectRefused, withoutPaths } from "./support.ts";

const HEAD =
  "apiVersion: security.istio.io/v1beta1\nkind: RequestAuthentication\nmetadata: { name: t, namespace: shop }\n";
const TARGET = "  targetRefs: [{ kind: Service, name: web }]\n";
const JWKS = `{"keys": [{"kty": "RSA", "kid": "k", "n": "k18T4HKI", "e": "AQAB"}, {"kty": "oct", "k": "c2VjcmV0"}]}`;

test("kube RequestAuthentication: every part of a rule", () => {
  const { objects } = accept(`${HEAD}spec:
  targetRefs: [{ group: "", kind: Service, name: web }, { group: gateway.networking.k8s.io, kind: Gateway, name: w }]
  jwtRules:
    - issuer: issuer.example.com
      jwks: '${JWKS}'
      audiences: [aud1, aud2]
      fromHeaders: [{ name: x-jwt, prefix: "Token " }, { name: x-raw, prefix: "" }, { name: x-plain }]
      fromParams: [tok]
      fromCookies: [jwt]
      outputPayloadToHeader: x-payload
      outputClaimToHeaders: [{ header: x-sub, claim: sub }]
      forwardOriginalToken: true
      timeout: 0.5s
    - { issuer: second, jwksUri: "http://keys.shop:8080/jwks?x=y", timeout: 1m }
`);
  const [authentication] = objects.authentications;
  assert.deepEqual(withoutPaths(authentication!.refs), [{ kind: "Service", name: "web" }, {
    kind: "Gateway",
    name: "w",
  }]);
  assert.deepEqual(withoutPaths(authentication!.jwtRules), [
    {
      issuer: "issuer.example.com",
      audiences: ["aud1", "aud2"],
      jwks: JWKS,
      jwksUri: undefined,
      fromHeaders: [{ name: "x-jwt", prefix: "Token " }, { name: "x-raw", prefix: "" }, {
        name: "x-plain",
        prefix: "",
      }],
      fromParams: ["tok"],
      fromCookies: ["jwt"],
      outputPayloadToHeader: "x-payload",
      outputClaimToHeaders: [{ header: "x-sub", claim: "sub" }],
      forwardOriginalToken: true,
      timeoutMs: 500,
    },
    {
      issuer: "second",
      audiences: [],
      jwks: undefined,
      jwksUri: "http://keys.shop:8080/jwks?x=y",
      fromHeaders: [],
      fromParams: [],
      fromCookies: [],
      outputPayloadToHeader: undefined,
      outputClaimToHeaders: [],
      forwardOriginalToken: false,
      timeoutMs: 60_000,
    },
  ]);
});

test("kube RequestAuthentication: without rules it understands no token", () => {
  assert.deepEqual(accept(`${HEAD}spec:\n${TARGET}`).objects.authentications[0]!.jwtRules, []);
});

type Case = readonly [name: string, text: string, ...problems: string[]];

const ATTACH =
  `requests are read at a waypoint only; attach it with targetRefs: [{group: "", kind: Service, name: ...}]`;
const SPECS: readonly Case[] = [
  ["no target", "{ jwtRules: [] }", `4:1: ${ATTACH}`],
  ["a selector", "{ selector: {} }", `4:9: ${ATTACH}`],
  [
    "an unknown key",
    "{ targetRefs: [{ kind: Service, name: a }], rules: [] }",
    `4:51: unknown key "rules"; known are targetRef, targetRefs, jwtRules`,
  ],
];

/** In flow style on line 6, which begins in column 14. */
const RULES: readonly Case[] = [
  [
    "no issuer, no keys",
    "{ audiences: aud }",
    "6:14: jwks or jwksUri is missing; ambit local does not ask the issuer where its keys are",
    "6:14: issuer is missing",
    `6:16: audiences must be a list of texts, is the string "aud"`,
  ],
  [
    "keys from two places",
    `{ issuer: a, jwks: '${JWKS}', jwksUri: "http://a" }`,
    "6:138: a rule has either jwks or jwksUri, not both",
  ],
  [
    "keys as a mapping",
    "{ issuer: a, jwks: { keys: [] } }",
    "6:27: jwks must be a text, is a mapping",
  ],
  ["keys that are no JSON", "{ issuer: a, jwks: '{' }", `6:27: jwks is no JSON; write '{"keys": [...]}'`],
  [
    "keys that are none",
    `{ issuer: a, jwks: '{"keys": [{"kid": "a"}]}' }`,
    `6:27: jwks is no set of JSON Web Keys; write '{"keys": [{"kty": ..., ...}]}'`,
  ],
  [
    "a private key",
    `{ issuer: a, jwks: '{"keys": [{"kty": "EC", "d": "x"}]}' }`,
    `6:27: jwks holds a private key; leave "d" and what comes with it out`,
  ],
  [
    "a place of keys that is none",
    "{ issuer: a, jwksUri: 'file:///etc/keys' }",
    `6:27: jwksUri must be a URL of http or https, is "file:///etc/keys"`,
  ],
  [
    "unknown and unsupported keys",
    "{ issuer: a, jwksUri: 'http://a', jwks_uri: b, spaceDelimitedClaims: [a], triggerRules: [] }",
    "6:48: write jwksUri",
    "6:61: spaceDelimitedClaims is not supported by ambit local; scope and permission are split anyway",
    `6:88: unknown key "triggerRules"; known are issuer, audiences, jwks, jwksUri, fromHeaders, fromParams, ` +
    "fromCookies, outputPayloadToHeader, outputClaimToHeaders, forwardOriginalToken, timeout",
  ],
  [
    "headers that are none",
    "{ issuer: a, jwksUri: 'http://a', fromHeaders: [{ name: 'a b', x: 1 }], outputPayloadToHeader: ':path', outputClaimToHeaders: [{ header: a.b }] }",
    `6:64: "a b" is no name of a header`,
    `6:77: unknown key "x"; known are name, prefix`,
    `6:86: ":path" is no name of a header`,
    "6:141: claim is missing",
    `6:143: header must be letters, digits, "-" and "_", is "a.b"`,
  ],
  [
    "a time that is none",
    "{ issuer: a, jwksUri: 'http://a', timeout: 0s, forwardOriginalToken: 'yes' }",
    `6:48: timeout must be a duration like 5s or 0.5s, is "0s"`,
    `6:61: forwardOriginalToken must be true or false, is the string "yes"`,
  ],
];

for (const [name, spec, ...problems] of SPECS) {
  test(`kube RequestAuthentication: refuses ${name}`, () => expectRefused([name, `${HEAD}spec: ${spec}`, ...problems]));
}
for (const [name, rule, ...problems] of RULES) {
  const text = `${HEAD}spec:\n${TARGET}  jwtRules: [${rule}]`;
  test(`kube RequestAuthentication: refuses ${name}`, () => expectRefused([name, text, ...problems]));
}
