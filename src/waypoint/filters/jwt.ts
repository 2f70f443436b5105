/**
 * Envoy's jwt_authn, as RequestAuthentication has it: a request without a token passes where its policy lets it, one with a bad token is answered 401,
 * and the claims of a good one are put where RBAC, routes and applications look for them.
 */
import { Buffer } from "node:buffer";
import type { FilterOutcome, HttpFilter, RequestContext } from "../engine/request_context.ts";
import { remove, set } from "../http/fields.ts";
import { compileHeader, type HeadPredicate } from "../match/head.ts";
import { compilePath, withoutQuery } from "../match/path.ts";
import { compileText, type TextPredicate } from "../match/text.ts";
import type { JwtProviderSpec, JwtRequirement, JwtSpec } from "../spec/mod.ts";
import { isPreflight } from "./cors.ts";
import { type CompiledProvider, judgeToken } from "./jwt_claims.ts";
import { findTokens, type FoundToken } from "./jwt_token.ts";
import type { JwtFailure, TokenVerifier, VerifiedToken } from "./jwt_verdict.ts";

export const JWT_METADATA = "envoy.filters.http.jwt_authn";

interface Rule {
  readonly path: TextPredicate;
  readonly headers: readonly HeadPredicate[];
  readonly requires: JwtRequirement;
}

/** Of one requirement: undefined failure passes. `missing`: nobody had a token to judge. */
interface Outcome {
  readonly failure: JwtFailure | undefined;
  readonly missing: boolean;
}

type Done = (outcome: Outcome) => void;

const PASSED: Outcome = { failure: undefined, missing: false };
const MISSING: Outcome = { failure: "Jwt is missing", missing: true };

/** @throws Error for what cannot be compiled, which refuses the chain */
export function createJwtFilter(spec: JwtSpec, verifier: TokenVerifier): HttpFilter {
  const providers = new Map(
    Object.entries(spec.providers).map(([name, provider]): [string, CompiledProvider] => [
      name,
      { spec: provider, subject: provider.subjects && compileText(provider.subjects) },
    ]),
  );
  const rules: readonly Rule[] = spec.rules.map(({ path, headers, requires }) => ({
    path: compilePath(path),
    headers: headers.map(compileHeader),
    requires,
  }));
  return {
    name: JWT_METADATA,
    request(context, resume): FilterOutcome {
      // What a client says of claims itself is nobody's claim.
      for (const { spec } of providers.values()) stripClaimHeaders(spec, context);
      if (spec.bypassCorsPreflight && isPreflight(context)) return "pass";
      const path = withoutQuery(context.head.path);
      const rule = rules.find((rule) => rule.path(path) && rule.headers.every((test) => test(context.head)));
      if (rule === undefined) return "pass";
      return new Judgement(context, providers, verifier, resume).judge(rule.requires);
    },
  };
}

function stripClaimHeaders(provider: JwtProviderSpec, { head }: RequestContext): void {
  if (provider.forwardPayloadHeader !== "") remove(head.headers, provider.forwardPayloadHeader);
  for (const { header } of provider.claimsToHeaders) remove(head.headers, header);
}

/** One request being judged. */
class Judgement {
  readonly #context: RequestContext;
  readonly #providers: ReadonlyMap<string, CompiledProvider>;
  readonly #verifier: TokenVerifier;
  readonly #resume: () => void;
  #over = false;
  #outcome: FilterOutcome | undefined;
  #fromWithin = true;

  constructor(
    context: RequestContext,
    providers: ReadonlyMap<string, CompiledProvider>,
    verifier: TokenVerifier,
    resume: () => void,
  ) {
    this.#context = context;
    this.#providers = providers;
    this.#verifier = verifier;
    this.#resume = resume;
    context.onEnd(() => this.#over = true);
  }

  judge(requirement: JwtRequirement): FilterOutcome {
    this.#require(requirement, ({ failure }) => this.#decide(failure));
    this.#fromWithin = false;
    return this.#outcome ?? "waiting";
  }

  #decide(failure: JwtFailure | undefined): void {
    if (this.#over) return;
    if (failure === undefined) {
      if (this.#fromWithin) this.#outcome = "pass";
      else this.#resume();
      return;
    }
    this.#outcome = "answered";
    const error = failure === "Jwt is missing" ? "" : ', error="invalid_token"';
    const realm = `http://${this.#context.original.authority}${withoutQuery(this.#context.original.path)}`;
    this.#context.answer({
      // Envoy's: who it is for is a matter of permission.
      status: failure === "Audiences in Jwt are not allowed" ? 403 : 401,
      body: failure,
      headers: ["www-authenticate", `Bearer realm="${realm.replaceAll('"', "%22")}"${error}`],
      details: `jwt_authn_access_denied{${failure.replaceAll(" ", "_")}}`,
    });
  }

  #require(requirement: JwtRequirement, done: Done): void {
    switch (requirement.kind) {
      case "provider":
        return this.#provider(requirement.provider, requirement.audiences, done);
      case "allow missing":
        return done(this.#anyToken() ? { failure: "Jwt issuer is not configured", missing: false } : PASSED);
      case "allow missing or failed":
        return this.#tryAll(done);
      case "any":
        return this.#any(requirement.of, 0, MISSING, done);
      case "all":
        return this.#all(requirement.of, 0, done);
    }
  }

  /** The first that passes; otherwise a failure, where a bad token says more than one of an issuer that is not known, and that more than none. */
  #any(of: readonly JwtRequirement[], at: number, worst: Outcome, done: Done): void {
    if (at === of.length) return done(worst);
    const requirement = of[at];
    // Whether nothing was there is known when all others have looked.
    if (requirement.kind === "allow missing") {
      return this.#any(
        of,
        at + 1,
        worst,
        (outcome) => done(outcome.failure !== undefined && outcome.missing && worst.missing ? PASSED : outcome),
      );
    }
    this.#require(requirement, (outcome) => {
      if (outcome.failure === undefined) return done(outcome);
      this.#any(of, at + 1, weightOf(outcome) >= weightOf(worst) ? outcome : worst, done);
    });
  }

  #all(of: readonly JwtRequirement[], at: number, done: Done): void {
    if (at === of.length) return done(PASSED);
    this.#require(of[at], (outcome) => outcome.failure === undefined ? this.#all(of, at + 1, done) : done(outcome));
  }

  /** Whatever can be verified is; nothing is asked for. */
  #tryAll(done: Done): void {
    const names = [...this.#providers.keys()];
    const next = (at: number): void =>
      at === names.length ? done(PASSED) : this.#provider(names[at], undefined, () => next(at + 1));
    next(0);
  }

  #anyToken(): boolean {
    return [...this.#providers.values()].some(({ spec }) => findTokens(spec, this.#context.head).length > 0);
  }

  #provider(name: string, audiences: readonly string[] | undefined, done: Done): void {
    const provider = this.#providers.get(name);
    if (provider === undefined) return done({ failure: "Jwt issuer is not configured", missing: false });
    const tokens = findTokens(provider.spec, this.#context.head);
    if (tokens.length === 0) return done(MISSING);
    this.#token(provider, audiences ?? provider.spec.audiences, tokens, tokens.length - 1, done);
  }

  /**
   * All of them must be good: the application might take the bad one for the one that was judged. From the last to the first, so that the claims that
   * stay are those of the place looked at first.
   */
  #token(
    provider: CompiledProvider,
    audiences: readonly string[],
    tokens: readonly FoundToken[],
    at: number,
    done: Done,
  ): void {
    if (at < 0 || this.#over) return done(PASSED);
    const found = tokens[at];
    this.#verifier.verify(provider.spec.name, found.token, (verdict) => {
      const failure = judgeToken(verdict, found.token, provider, audiences, Date.now() / 1000);
      if (failure !== undefined) return done({ failure, missing: false });
      if (verdict.ok && !this.#over) this.#take(provider.spec, found, verdict.token);
      this.#token(provider, audiences, tokens, at - 1, done);
    });
  }

  /** A good token: its claims go where they are looked for. */
  #take(provider: JwtProviderSpec, found: FoundToken, { payload, header, encodedPayload }: VerifiedToken): void {
    const { head, metadata } = this.#context;
    if (!provider.forward) found.strip(head);
    if (provider.forwardPayloadHeader !== "") {
      set(
        head.headers,
        provider.forwardPayloadHeader,
        provider.padForwardPayload ? padded(encodedPayload) : encodedPayload,
      );
    }
    for (const { claim, header: name } of provider.claimsToHeaders) {
      const value = claimAt(payload, claim);
      const text = claimText(value);
      if (text !== undefined) set(head.headers, name, text);
    }
    const known = metadata.get(JWT_METADATA) ?? {};
    const added: Record<string, unknown> = {};
    if (provider.payloadInMetadata !== "") {
      added[provider.payloadInMetadata] = splitClaims(payload, provider.spaceDelimitedClaims);
    }
    if (provider.headerInMetadata !== "") added[provider.headerInMetadata] = header;
    if (Object.keys(added).length > 0) metadata.set(JWT_METADATA, { ...known, ...added });
    if (provider.clearRouteCache) this.#context.clearRoute();
  }
}

function weightOf({ failure, missing }: Outcome): number {
  return missing ? 0 : failure === "Jwt issuer is not configured" ? 1 : 2;
}

function claimAt(payload: Readonly<Record<string, unknown>>, claim: string): unknown {
  let value: unknown = payload;
  for (const key of claim.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

/** As a header: text, numbers and truth as they are, anything else as base64url of its JSON. */
function claimText(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return /[\r\n\0]/.test(value) ? undefined : value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

function splitClaims(payload: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, unknown> {
  const split: Record<string, unknown> = { ...payload };
  for (const name of names) {
    const value = split[name];
    if (typeof value === "string") split[name] = value.split(" ").filter((part) => part !== "");
  }
  return split;
}

function padded(encoded: string): string {
  return encoded + "=".repeat((4 - encoded.length % 4) % 4);
}
