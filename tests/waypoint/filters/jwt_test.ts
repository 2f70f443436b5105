import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import { test } from "node:test";
import { createJwtFilter } from "../../../src/waypoint/filters/jwt.ts";
import { createVerdictCache } from "../../../src/waypoint/filters/jwt_cache.ts";
import { keyFetcher } from "../../../src/waypoint/filters/jwt_fetch.ts";
import { createTokenJudge } from "../../../src/waypoint/filters/jwt_judge.ts";
import type { TokenVerdict } from "../../../src/waypoint/filters/jwt_verdict.ts";
import type { ClusterName, JwtProviderSpec, JwtRequirement, JwtSpec } from "../../../src/waypoint/spec/mod.ts";
import { replay } from "../config/fixtures.ts";
import { chain, forwardTo, route, TestEngine } from "../support/test_engine.ts";

const { publicKey, privateKey } = await generateKeyPair("RS256");
const other = await generateKeyPair("ES256");
const JWKS = JSON.stringify({ keys: [{ ...await exportJWK(publicKey), kid: "k1", alg: "RS256" }] });

function provider(name: string, changes: Partial<JwtProviderSpec> = {}): JwtProviderSpec {
  return {
    name,
    issuer: name,
    audiences: [],
    keys: { kind: "inline", jwks: JWKS },
    fromHeaders: [],
    fromParams: [],
    fromCookies: [],
    forward: false,
    forwardPayloadHeader: "",
    padForwardPayload: false,
    claimsToHeaders: [],
    payloadInMetadata: "payload",
    headerInMetadata: "",
    spaceDelimitedClaims: ["scope"],
    clockSkewSeconds: 60,
    subjects: undefined,
    requireExpiration: false,
    clearRouteCache: true,
    ...changes,
  };
}

async function token(
  claims: Record<string, unknown> = {},
  key = privateKey,
  kid = "k1",
  alg = "RS256",
): Promise<string> {
  return await new SignJWT({ iss: "me", sub: "you", ...claims }).setProtectedHeader({ alg, kid }).sign(key);
}

const allowMissing = (name: string): JwtRequirement => ({
  kind: "any",
  of: [{ kind: "provider", provider: name, audiences: undefined }, { kind: "allow missing" }],
});

interface Asked {
  readonly status: number | undefined;
  readonly body: string;
  readonly sent: string;
  readonly metadata: unknown;
  readonly challenge: string | undefined;
}

/** One request through the filter, with verdicts by jose as the main thread gives them. */
async function ask(
  spec: JwtProviderSpec,
  headers: string[],
  path = "/",
  requires = allowMissing(spec.name),
): Promise<Asked> {
  const jwt: JwtSpec = {
    providers: { [spec.name]: spec },
    rules: [{ path: { kind: "prefix", path: "/", ignoreCase: false }, headers: [], requires }],
    bypassCorsPreflight: true,
  };
  const judge = createTokenJudge(() => Promise.reject(new Error("nobody")), () => 0);
  const pending: Promise<void>[] = [];
  const cache = createVerdictCache(
    (_name, text, done) => void pending.push(judge.judge(spec, text).then(done)),
    () => 0,
  );
  const engine = new TestEngine(chain([route({ action: forwardTo("b") })]), { filters: [createJwtFilter(jwt, cache)] });
  engine.onRequest = (seen) => seen.exchange.respond({ status: 200, headers: [] }, true);
  const answer = engine.request({ headers, path });
  while (pending.length > 0) {
    await pending.shift();
    engine.run();
  }
  return {
    status: answer.status,
    body: answer.body,
    sent: engine.seen.map(({ exchange }) => `${exchange.head.path} ${exchange.head.headers.join()}`).join(),
    metadata: engine.finished[0]?.metadata.get("envoy.filters.http.jwt_authn"),
    challenge: answer.header("www-authenticate"),
  };
}

const bearer = (text: string): string[] => ["authorization", `Bearer ${text}`];

test("jwt: a good token passes, is taken out, and its claims are known", async () => {
  const result = await ask(
    provider("me", {
      forwardPayloadHeader: "x-payload",
      claimsToHeaders: [{ claim: "sub", header: "x-sub" }, { claim: "a.b", header: "x-ab" }],
    }),
    [...bearer(await token({ scope: "read write", a: { b: 1 } })), "x-sub", "spoofed", "x-payload", "spoofed"],
  );
  assert.equal(result.status, 200);
  assert.ok(!result.sent.includes("authorization") && !result.sent.includes("spoofed"), result.sent);
  assert.ok(result.sent.includes("x-sub,you") && result.sent.includes("x-ab,1"), result.sent);
  assert.deepEqual((result.metadata as { payload: { scope: unknown } }).payload.scope, ["read", "write"]);
});

test("jwt: what is wrong with a token is told in Envoy's words", async () => {
  const now = Math.floor(Date.now() / 1000);
  const good = await token();
  const [header, , signature] = good.split(".");
  const cases: readonly [Partial<JwtProviderSpec>, string, string][] = [
    [{}, await token({ iss: "somebody" }), "Jwt issuer is not configured"],
    [{}, await token({ exp: now - 3600 }), "Jwt is expired"],
    [{}, await token({ nbf: now + 3600 }), "Jwt not yet valid"],
    [{ audiences: ["a"] }, await token({ aud: "b" }), "Audiences in Jwt are not allowed"],
    [{ requireExpiration: true }, good, "Jwt is expired"],
    [{ subjects: { kind: "exact", text: "x", ignoreCase: false } }, good, "Jwt subject is not allowed"],
    // What it claims comes before who signed it.
    [{}, await token({ iss: "somebody" }, other.privateKey, "k2", "ES256"), "Jwt issuer is not configured"],
    [{}, await token({}, other.privateKey, "k2", "ES256"), "Jwks doesn't have key to match kid or alg from Jwt"],
    [
      {},
      `${header}.${Buffer.from('{"iss":"me","sub":"root"}').toString("base64url")}.${signature}`,
      "Jwt verification fails",
    ],
    [
      {},
      `${Buffer.from('{"alg":"none"}').toString("base64url")}.${good.split(".")[1]}.x`,
      "Jwt header [alg] is not supported",
    ],
    [{}, "nonsense", "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"],
    [{}, "a.b.c", "Jwt header is an invalid Base64url encoded"],
  ];
  for (const [changes, text, failure] of cases) {
    const result = await ask(provider("me", changes), bearer(text));
    const status = failure === "Audiences in Jwt are not allowed" ? 403 : 401;
    assert.deepEqual([result.status, result.body], [status, failure]);
    assert.match(result.challenge ?? "", /^Bearer realm="http:\/\/b.demo\/", error="invalid_token"$/);
    assert.equal(result.sent, "", failure);
  }
});

test("jwt: a missing token passes only where the policy lets it", async () => {
  assert.equal((await ask(provider("me"), [])).status, 200);
  const required = await ask(provider("me"), [], "/", { kind: "provider", provider: "me", audiences: undefined });
  assert.deepEqual([required.status, required.body], [401, "Jwt is missing"]);
  assert.doesNotMatch(required.challenge ?? "", /error/);
  assert.equal((await ask(provider("me"), bearer("bad"), "/", { kind: "allow missing or failed" })).status, 200);
});

test("jwt: tokens are found where the provider says, and nowhere else", async () => {
  const good = await token();
  assert.equal((await ask(provider("me"), [], `/?access_token=${good}&x=1`)).sent.startsWith("/?x=1 "), true);
  const custom = provider("me", {
    fromHeaders: [{ name: "x-token", prefix: "jwt " }],
    fromCookies: ["session"],
    forward: true,
  });
  const required: JwtRequirement = { kind: "provider", provider: "me", audiences: undefined };
  assert.equal((await ask(custom, ["x-token", `jwt ${good}`], "/", required)).status, 200);
  assert.equal((await ask(custom, ["cookie", `a=b; session=${good}`], "/", required)).status, 200);
  assert.equal((await ask(custom, bearer(good), "/", required)).status, 401);
});

test("jwt: a bad token beside a good one is refused, wherever each of them is", async () => {
  const [good, bad] = [await token(), await token({}, other.privateKey, "k1", "ES256")];
  for (const [header, param] of [[good, bad], [bad, good]]) {
    const result = await ask(provider("me"), bearer(header!), `/?access_token=${param}`);
    assert.deepEqual([result.status, result.sent], [401, ""]);
  }
  assert.equal((await ask(provider("me"), bearer(good), `/?access_token=${good}`)).status, 200);
});

test("jwt: of several refusals a bad token's is told, then an unknown issuer's", async () => {
  const requires = (...of: readonly JwtRequirement[]): JwtRequirement => ({ kind: "any", of });
  const me: JwtRequirement = { kind: "provider", provider: "me", audiences: undefined };
  const nobody: JwtRequirement = { kind: "provider", provider: "nobody", audiences: undefined };
  const expired = bearer(await token({ exp: 1 }));
  assert.equal((await ask(provider("me"), expired, "/", requires(me, nobody))).body, "Jwt is expired");
  assert.equal((await ask(provider("me"), expired, "/", requires(nobody, me))).body, "Jwt is expired");
  assert.equal((await ask(provider("me"), [], "/", requires(nobody, me))).body, "Jwt issuer is not configured");
});

test("jwt: audiences compare without scheme and slash", async () => {
  assert.equal(
    (await ask(
      provider("me", { audiences: ["https://shop.example/"] }),
      bearer(await token({ aud: ["x", "shop.example"] })),
    )).status,
    200,
  );
});

test("jwt: a browser's preflight needs no token", async () => {
  const required: JwtRequirement = { kind: "provider", provider: "me", audiences: undefined };
  const spec: JwtSpec = {
    providers: { me: provider("me") },
    rules: [{ path: { kind: "prefix", path: "/", ignoreCase: false }, headers: [], requires: required }],
    bypassCorsPreflight: true,
  };
  const engine = new TestEngine(chain([route({ action: forwardTo("b") })]), {
    filters: [createJwtFilter(spec, { verify() {} })],
  });
  engine.request({ method: "OPTIONS", headers: ["origin", "https://a", "access-control-request-method", "GET"] });
  assert.equal(engine.seen.length, 1);
});

test("jwt judge: remote keys are fetched once, kept, and fetched again for a key that is new", async () => {
  let nowMs = 0;
  let fetched = 0;
  let keys: string | undefined = JWKS;
  const judge = createTokenJudge(() => {
    fetched++;
    return keys === undefined ? Promise.reject(new Error("down")) : Promise.resolve(keys);
  }, () => nowMs);
  const remote = provider("me", {
    keys: { kind: "remote", uri: "https://idp/jwks", cluster: "idp" as never, timeoutMs: 1000, cacheMs: 300_000 },
  });
  const good = await token();
  const verdicts = await Promise.all([judge.judge(remote, good), judge.judge(remote, good)]);
  assert.deepEqual(verdicts.map(({ ok }) => ok), [true, true]);
  assert.equal(fetched, 1);
  const rotated = await token({}, other.privateKey, "k2", "ES256");
  assert.equal((await judge.judge(remote, rotated)).ok, false);
  assert.equal(fetched, 1, "no oftener than every 10 s");
  keys = JSON.stringify({ keys: [{ ...await exportJWK(other.publicKey), kid: "k2", alg: "ES256" }] });
  nowMs += 11_000;
  assert.equal((await judge.judge(remote, rotated)).ok, true);
  keys = undefined;
  nowMs += 400_000;
  assert.equal((await judge.judge(remote, rotated)).ok, true, "known keys serve while the issuer is down");
  const empty = createTokenJudge(() => Promise.reject(new Error("down")), () => 0);
  const failed = await empty.judge(remote, good) as Extract<TokenVerdict, { ok: false }>;
  assert.equal(failed.failure, "Jwks remote fetch is failed");
});

test("jwt keys: are got through the cluster that the provider names, and must be text", async () => {
  const asked: unknown[] = [];
  const fetchKeys = keyFetcher((...question) => {
    asked.push(question);
    return Promise.resolve(asked.length === 1 ? new TextEncoder().encode(JWKS) : new Uint8Array([0xff, 0xfe]));
  });
  const uri = "http://keys.example.com/jwks";
  const source = {
    kind: "remote",
    uri,
    cluster: "outbound|80||keys" as ClusterName,
    timeoutMs: 0,
    cacheMs: 1,
  } as const;
  assert.equal(await fetchKeys(source), JWKS);
  assert.deepEqual(asked, [["outbound|80||keys", uri, 5_000]]);
  await assert.rejects(fetchKeys({ ...source, timeoutMs: 700 }));
  assert.deepEqual(asked[1], ["outbound|80||keys", uri, 700]);
});

test("jwt cache: a token is judged once at a time, a bad one each time", async () => {
  let asked = 0;
  const waiting: ((verdict: TokenVerdict) => void)[] = [];
  const cache = createVerdictCache((_provider, _token, done) => {
    asked++;
    waiting.push(done);
  }, () => 0);
  const seen: boolean[] = [];
  cache.verify("p", "t", ({ ok }) => void seen.push(ok));
  cache.verify("p", "t", ({ ok }) => void seen.push(ok));
  waiting.shift()?.({ ok: true, token: { payload: {}, header: {}, encodedPayload: "" } });
  cache.verify("p", "t", ({ ok }) => void seen.push(ok));
  assert.deepEqual([asked, seen], [1, [true, true, true]]);
  cache.forget("p");
  cache.verify("p", "t", ({ ok }) => void seen.push(ok));
  waiting.shift()?.({ ok: false, failure: "Jwt verification fails" });
  cache.verify("p", "t", () => {});
  assert.equal(asked, 3);
});

test("jwt: what a real istiod sent compiles", () => {
  let count = 0;
  for (const { chains = [] } of replay("authz").updates) {
    for (const spec of chains) {
      if (spec.kind !== "http") continue;
      for (const policy of spec.policies) {
        if (policy.kind === "jwt") count += createJwtFilter(policy.jwt, { verify() {} }) && 1;
      }
    }
  }
  assert.ok(count > 0);
});
