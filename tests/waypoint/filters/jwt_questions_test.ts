import assert from "node:assert/strict";
import { test } from "node:test";
import { type TokenQuestion, TokenQuestions } from "../../../src/waypoint/filters/jwt_questions.ts";
import type { TokenVerdict } from "../../../src/waypoint/filters/jwt_verdict.ts";
import type { JwtProviderSpec, JwtSpec } from "../../../src/waypoint/spec/mod.ts";

const spec = (keys: Readonly<Record<string, string>>): JwtSpec => ({
  providers: Object.fromEntries(
    Object.entries(keys).map(([name, jwks]) => [
      name,
      { name, issuer: name, keys: { kind: "inline", jwks } } as unknown as JwtProviderSpec,
    ]),
  ),
  rules: [],
  bypassCorsPreflight: true,
});
const GOOD: TokenVerdict = { ok: true, token: { payload: {}, header: {}, encodedPayload: "" } };
const BAD: TokenVerdict = { ok: false, failure: "Jwt verification fails" };

function asking() {
  const asked: TokenQuestion[] = [];
  const later: (() => void)[] = [];
  const questions = new TokenQuestions((question) => asked.push(question), (work) => later.push(work), () => 0);
  const verdicts: (boolean | string)[] = [];
  const ask = (of: JwtSpec, provider: string, token: string) =>
    questions.verifier(of).verify(provider, token, (verdict) => void verdicts.push(verdict.ok || verdict.failure));
  return { questions, asked, later, verdicts, ask };
}

test("jwt questions: one name in two chains may mean two sets of keys", () => {
  const { questions, asked, verdicts, ask } = asking();
  ask(spec({ "origins-0": "keys a" }), "origins-0", "t");
  questions.received(asked[0].id, GOOD);
  // The other chain's keys did not sign it.
  ask(spec({ "origins-0": "keys b" }), "origins-0", "t");
  assert.equal(asked.length, 2);
  assert.deepEqual(asked.map(({ provider }) => provider.keys), [
    { kind: "inline", jwks: "keys a" },
    { kind: "inline", jwks: "keys b" },
  ]);
  questions.received(asked[1].id, BAD);
  assert.deepEqual(verdicts, [true, "Jwt verification fails"]);
});

test("jwt questions: chains that trust the same keys share what is known", () => {
  const { questions, asked, verdicts, ask } = asking();
  ask(spec({ a: "keys" }), "a", "t");
  ask(spec({ b: "keys" }), "b", "t");
  assert.equal(asked.length, 1);
  questions.received(asked[0].id, GOOD);
  questions.received(asked[0].id, BAD);
  ask(spec({ c: "keys" }), "c", "t");
  assert.deepEqual([asked.length, verdicts], [1, [true, true, true]]);
});

test("jwt questions: a provider that is not there, and a flood, fail", () => {
  const { asked, later, verdicts, ask } = asking();
  ask(spec({ a: "keys" }), "b", "t");
  const chain = spec({ a: "keys" });
  for (let i = 0; i < 1030; i++) ask(chain, "a", `t${i}`);
  for (const work of later) work();
  assert.equal(asked.length, 1024);
  assert.deepEqual(verdicts, Array<string>(7).fill("Jwks remote fetch is failed"));
});
