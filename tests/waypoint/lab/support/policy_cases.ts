/**
 * Every kind of match of an AuthorizationPolicy, each with a request that it meets and one that it does not. A case has a path of its own, so that
 * all of them can lie on one service: as ALLOW on one, where what none allows is denied, and as DENY on another.
 */
import type { AppPod } from "./stage.ts";
import { bearer, type Issuer } from "./tokens.ts";

type Parts = Readonly<Record<string, unknown>>;

export interface Who {
  readonly client: AppPod;
  /** Same namespace, another service account. */
  readonly stranger: AppPod;
  /** Another namespace. */
  readonly outsider: AppPod;
  readonly issuer: Issuer;
  /** The service's address. */
  readonly vip: string;
}

export interface Asking {
  /** Default: the client. */
  readonly from?: AppPod;
  /** Below the case's own path; default `x`. */
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Of the service, by name; default `http`. */
  readonly port?: string;
}

export interface PolicyCase {
  readonly name: string;
  readonly rules: readonly Parts[];
  readonly met: readonly Asking[];
  readonly unmet: readonly Asking[];
}

/** `base` is the case's own path, without a slash at its end. */
type Draft = readonly [
  name: string,
  rule: (base: string) => Parts | readonly Parts[],
  met: readonly Asking[],
  unmet: readonly Asking[],
];

/** `/base*` of a rule that says nothing else about paths. */
const within = (base: string, operation: Parts = {}): Parts => ({
  to: [{ operation: { paths: [`${base}/*`], ...operation } }],
});
const source = (base: string, parts: Parts): Parts => ({ from: [{ source: parts }], ...within(base) });
const when = (base: string, key: string, parts: Parts): Parts => ({ when: [{ key, ...parts }], ...within(base) });

export function policyCases(who: Who): readonly PolicyCase[] {
  return [...sources(who), ...operations(), ...conditions(who), ...combinations(who)].map(
    ([name, rule, met, unmet], i) => {
      const base = `/${i}`;
      const place = (asking: Asking): Asking => ({ ...asking, path: `${base}/${asking.path ?? "x"}` });
      return { name, rules: [rule(base)].flat(), met: met.map(place), unmet: unmet.map(place) };
    },
  );
}

function sources({ client, stranger, outsider, issuer }: Who): readonly Draft[] {
  const { namespace } = client.pod;
  const [byClient, byStranger, byOutsider] = [{}, { from: stranger }, { from: outsider }];
  const principal = (pod: AppPod) => `cluster.local/ns/${pod.pod.namespace}/sa/${pod.pod.serviceAccount}`;
  const ip = ({ pod }: AppPod) => pod.ip();
  const token = (claims: Parts) => ({ headers: bearer(issuer.token(claims)) });
  const [ann, bob] = [token({ sub: "ann" }), token({ sub: "bob" })];
  const is = (name: string, parts: Parts, met: readonly Asking[], unmet: readonly Asking[]): Draft => [
    name,
    (base) => source(base, parts),
    met,
    unmet,
  ];
  return [
    is("principals", { principals: [principal(client)] }, [byClient], [byStranger, byOutsider]),
    is("principals, prefix", { principals: [`cluster.local/ns/${namespace}/*`] }, [byClient, byStranger], [byOutsider]),
    is("principals, suffix", { principals: ["*/sa/stranger"] }, [byStranger], [byClient, byOutsider]),
    is("principals, any", { principals: ["*"] }, [byClient, byOutsider], []),
    is("notPrincipals", { notPrincipals: [principal(client)] }, [byStranger, byOutsider], [byClient]),
    is("namespaces", { namespaces: [outsider.pod.namespace] }, [byOutsider], [byClient]),
    is("namespaces, prefix", { namespaces: ["stage-*"] }, [byClient], [byOutsider]),
    is("notNamespaces", { notNamespaces: [outsider.pod.namespace] }, [byClient, byStranger], [byOutsider]),
    is("serviceAccounts", { serviceAccounts: [`${namespace}/client`] }, [byClient], [byStranger, byOutsider]),
    is("notServiceAccounts", { notServiceAccounts: ["client"] }, [byStranger], [byClient]),
    is("ipBlocks", { ipBlocks: [ip(client)] }, [byClient], [byStranger]),
    is("ipBlocks, range", { ipBlocks: ["192.0.2.0/24", `${ip(stranger)}/32`] }, [byStranger], [byClient]),
    is("notIpBlocks", { notIpBlocks: [`${ip(client)}/32`] }, [byStranger], [byClient]),
    is("remoteIpBlocks", { remoteIpBlocks: [`${ip(client)}/32`] }, [byClient], [
      byStranger,
      // What a client says of itself is no address.
      { from: stranger, headers: { "x-forwarded-for": ip(client), "x-envoy-external-address": ip(client) } },
    ]),
    is("notRemoteIpBlocks", { notRemoteIpBlocks: [ip(client)] }, [byStranger], [byClient]),
    is("requestPrincipals", { requestPrincipals: [`${issuer.name}/ann`] }, [ann], [bob, {}]),
    is("requestPrincipals, prefix", { requestPrincipals: [`${issuer.name}/a*`] }, [ann], [bob, {}]),
    is("requestPrincipals, suffix", { requestPrincipals: ["*/bob"] }, [bob], [ann, {}]),
    is("requestPrincipals, any", { requestPrincipals: ["*"] }, [ann, bob], [{}]),
    is("notRequestPrincipals", { notRequestPrincipals: [`${issuer.name}/ann`] }, [bob, {}], [ann]),
  ];
}

function operations(): readonly Draft[] {
  const host = (host: string): Asking => ({ headers: { host } });
  const at = (path: string): Asking => ({ path });
  const by = (method: string): Asking => ({ method });
  const is = (name: string, parts: Parts, met: readonly Asking[], unmet: readonly Asking[]): Draft => [
    name,
    (base) => within(base, parts),
    met,
    unmet,
  ];
  const paths = (
    name: string,
    of: (base: string) => Parts,
    met: readonly string[],
    unmet: readonly string[],
  ): Draft => [
    name,
    (base) => ({ to: [{ operation: of(base) }] }),
    met.map(at),
    unmet.map(at),
  ];
  return [
    is("hosts", { hosts: ["shop.example.com"] }, [host("shop.example.com"), host("SHOP.example.com")], [
      host("other.example.com"),
    ]),
    is("hosts, prefix", { hosts: ["shop.*"] }, [host("shop.one")], [host("a.shop.one")]),
    is("hosts, suffix", { hosts: ["*.example.com"] }, [host("a.example.com")], [host("a.example.org")]),
    is("notHosts", { notHosts: ["shop.example.com"] }, [host("other")], [host("shop.example.com")]),
    is("ports", { ports: ["81"] }, [{ port: "http2-api" }], [{ port: "http" }]),
    is("notPorts", { notPorts: ["81"] }, [{ port: "http" }], [{ port: "http2-api" }]),
    is("methods", { methods: ["PUT", "GET"] }, [by("GET"), by("PUT")], [by("POST")]),
    is("methods, prefix", { methods: ["P*"] }, [by("POST"), by("PUT")], [by("GET")]),
    is("notMethods", { notMethods: ["GET"] }, [by("POST")], [by("GET")]),
    paths("paths", (base) => ({ paths: [`${base}/in`] }), ["in", "in?a=b", "./in", "%69n", "a/../in"], [
      "in/",
      "inn",
      "IN",
    ]),
    paths("paths, prefix", (base) => ({ paths: [`${base}/in/*`] }), ["in/", "in/a/b"], ["in", "out/in/"]),
    paths("paths, suffix", (base) => ({ paths: [`${base}/never`, "*/.end/.one"] }), ["a/.end/.one"], [
      "a/.end/.one/b",
      ".end",
    ]),
    paths("paths, template of one segment", (base) => ({ paths: [`${base}/{*}/in`] }), ["a/in", "b.c/in"], [
      "a/b/in",
      "in",
      "a/in/b",
    ]),
    paths("paths, template of the rest", (base) => ({ paths: [`${base}/in/{**}`] }), ["in/a", "in/a/b"], ["out/a"]),
    paths("paths, both templates", (base) => ({ paths: [`${base}/{*}/in/{**}/end`] }), ["a/in/b/end", "a/in/b/c/end"], [
      "a/b/end",
    ]),
    paths("notPaths", (base) => ({ paths: [`${base}/*`], notPaths: [`${base}/out*`] }), ["in"], ["out", "out/a"]),
  ];
}

function conditions({ client, stranger, outsider, issuer, vip }: Who): readonly Draft[] {
  const [byClient, byStranger, byOutsider] = [{}, { from: stranger }, { from: outsider }];
  const token = (claims: Parts) => ({ headers: bearer(issuer.token(claims)) });
  const tag = (value: string) => ({ headers: { "x-tag": value } });
  const is = (key: string, parts: Parts, met: readonly Asking[], unmet: readonly Asking[]): Draft => [
    `when ${key} ${Object.keys(parts).join()}`,
    (base) => when(base, key, parts),
    met,
    unmet,
  ];
  const ip = client.pod.ip();
  return [
    is("request.headers[x-tag]", { values: ["one", "two*"] }, [tag("one"), tag("two-b")], [tag("ones"), {}]),
    is("request.headers[x-tag]", { notValues: ["one"] }, [tag("two"), {}], [tag("one")]),
    is("source.ip", { values: [ip] }, [byClient], [byStranger]),
    is("source.ip", { notValues: [`${ip}/32`] }, [byStranger], [byClient]),
    is("remote.ip", { values: [`${ip}/32`] }, [byClient], [byStranger]),
    is("source.namespace", { values: [outsider.pod.namespace] }, [byOutsider], [byClient]),
    is("source.principal", { values: [`cluster.local/ns/${client.pod.namespace}/sa/client`] }, [byClient], [
      byStranger,
    ]),
    is("source.principal", { notValues: ["*/sa/client"] }, [byStranger], [byClient]),
    is("request.auth.principal", { values: [`${issuer.name}/ann`] }, [token({})], [token({ sub: "bob" }), {}]),
    is("request.auth.audiences", { values: ["shop"] }, [token({ aud: "shop" }), token({ aud: ["bar", "shop"] })], [
      token({ aud: "bar" }),
      {},
    ]),
    is("request.auth.presenter", { values: ["app-1"] }, [token({ azp: "app-1" })], [token({ azp: "app-2" }), {}]),
    is("request.auth.claims[group]", { values: ["admin", "ops*"] }, [
      token({ group: "admin" }),
      token({ group: ["x", "ops1"] }),
    ], [
      token({ group: "guest" }),
      token({}),
      {},
    ]),
    is("request.auth.claims[group]", { notValues: ["guest"] }, [token({ group: "admin" })], [
      token({ group: "guest" }),
    ]),
    is("request.auth.claims[a][b]", { values: ["c"] }, [token({ a: { b: "c" } })], [
      token({ a: { b: "d" } }),
      token({ a: "c" }),
    ]),
    is("request.auth.claims[scope]", { values: ["read"] }, [token({ scope: "write read" })], [
      token({ scope: "write" }),
    ]),
    is("destination.port", { values: ["81"] }, [{ port: "http2-api" }], [{ port: "http" }]),
    is("destination.ip", { values: [vip] }, [byClient], []),
    is("destination.ip", { values: ["192.0.2.1"] }, [], [byClient]),
  ];
}

function combinations({ client, stranger, outsider }: Who): readonly Draft[] {
  const [byClient, byStranger, byOutsider] = [{}, { from: stranger }, { from: outsider }];
  const { namespace } = client.pod;
  const put = (from: AppPod): Asking => ({ from, method: "PUT" });
  return [
    [
      "all of from, to and when",
      (base) => ({
        from: [{ source: { namespaces: [namespace], notPrincipals: ["*/sa/stranger"] } }],
        ...within(base, { methods: ["PUT"] }),
        when: [{ key: "request.headers[x-tag]", values: ["one"] }],
      }),
      [{ ...put(client), headers: { "x-tag": "one" } }],
      [put(client), { ...put(stranger), headers: { "x-tag": "one" } }, { headers: { "x-tag": "one" } }, {
        ...put(outsider),
        headers: { "x-tag": "one" },
      }],
    ],
    [
      "any of several sources",
      (base) => ({
        from: [{ source: { principals: ["*/sa/stranger"] } }, { source: { namespaces: [outsider.pod.namespace] } }],
        ...within(base),
      }),
      [byStranger, byOutsider],
      [byClient],
    ],
    [
      "any of several rules",
      (base) => [source(base, { principals: ["*/sa/client"] }), within(base, { methods: ["PUT"] })],
      [byClient, put(stranger)],
      [byStranger],
    ],
  ];
}
