/** HTTPRoutes that cannot be honoured, each with everything that is said about it. */
import { test } from "node:test";
import { expectRefused } from "./support.ts";

const HEAD = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r, namespace: shop }\n";
const PARENT = "  parentRefs: [{ group: '', kind: Service, name: web }]\n";

type Case = readonly [name: string, text: string, ...problems: string[]];

const SERVICE = `name the Service: {group: "", kind: Service, name: ...}`;
const SPECS: readonly Case[] = [
  [
    "no parent and no rule",
    "spec: {}",
    `4:1: a route needs a parent: parentRefs: [{group: "", kind: Service, name: ...}]`,
    "4:1: a route needs at least one rule",
  ],
  [
    "a Gateway as parent",
    "spec:\n  parentRefs: [{ name: gw }]\n  rules: [{}]",
    `5:16: a parent of the kind "Gateway" is not supported by ambit local; ${SERVICE}`,
  ],
  [
    "a parent of another group",
    "spec:\n  parentRefs: [{ group: x.example, kind: Service, name: a }, { kind: Service, name: b }]\n  rules: [{}]",
    `5:18: a parent of the group "x.example" is not supported by ambit local; ${SERVICE}`,
    `5:62: a parent of the group "gateway.networking.k8s.io" is not supported by ambit local; ${SERVICE}`,
  ],
  [
    "a ServiceEntry as parent",
    "spec:\n  parentRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: a }]\n  rules: [{}]",
    `5:46: a parent of the kind "ServiceEntry" is not supported by ambit local; ${SERVICE}`,
  ],
  [
    "a parent in another namespace",
    "spec:\n  parentRefs: [{ group: '', kind: Service, name: a, namespace: other }]\n  rules: [{}]",
    "5:53: a route in the namespace of its clients is not supported by a waypoint; put it in the namespace other of the Service",
  ],
  [
    "a section of a parent",
    "spec:\n  parentRefs: [{ group: '', kind: Service, name: a, sectionName: http }]\n  rules: [{}]",
    "5:53: sectionName is not supported by ambit local; name a port of the Service by port",
  ],
  [
    "a port that is none",
    "spec:\n  parentRefs: [{ group: '', kind: Service, name: a, port: 65536 }]\n  rules: [{}]",
    "5:53: port must be a whole number from 1 to 65535, is the number 65536",
  ],
  [
    "a parent that is there twice",
    "spec:\n  parentRefs: [{ group: '', kind: Service, name: a }, { group: '', kind: Service, name: a }]\n  rules: [{}]",
    "5:55: the parent Service a is there twice",
  ],
  [
    "hostnames and unknown keys",
    `spec:\n${PARENT}  hostnames: [a.example]\n  useDefaultGateways: All\n  rules: [{}]`,
    "6:3: hostnames do not count for a route whose parent is a Service; leave them out",
    `7:3: unknown key "useDefaultGateways"; known are parentRefs, rules`,
  ],
  [
    "rules that are no list",
    `spec:\n${PARENT}  rules: { matches: [] }`,
    `6:3: must be a list (lines that begin with "- "), is a mapping`,
    "6:3: a route needs at least one rule",
  ],
  [
    "a name of two rules",
    `spec:\n${PARENT}  rules: [{ name: a }, { name: a }]`,
    "6:26: the rule a is there twice",
  ],
];

/** With a rule in flow style on line 7, which begins in column 7. */
const RULES: readonly Case[] = [
  [
    "unknown keys of a rule",
    "{ sessionPersistence: {}, weight: 1 }",
    "7:9: sessionPersistence is not supported by a waypoint",
    `7:33: unknown key "weight"; known are name, matches, filters, backendRefs, timeouts, retry`,
  ],
  [
    "a path without a slash",
    "{ matches: [{ path: { value: a } }] }",
    `7:29: value must begin with "/", is "a"`,
  ],
  [
    "a path that is never asked for",
    "{ matches: [{ path: { type: Exact, value: /a/../b } }, { path: { value: /a%2Fb } }, { path: { value: //a } }] }",
    `7:42: value holds "//", "/.", "/.." or "%2F", which no path has when it is matched`,
    `7:72: value holds "//", "/.", "/.." or "%2F", which no path has when it is matched`,
    `7:101: value holds "//", "/.", "/.." or "%2F", which no path has when it is matched`,
  ],
  [
    "a path with a query",
    "{ matches: [{ path: { value: '/a?b=c' } }] }",
    `7:29: value holds characters that cannot be in a path: "/a?b=c"`,
  ],
  [
    "an unknown type of match",
    "{ matches: [{ path: { type: Prefix } }, { headers: [{ name: a, value: b, type: Prefix }] }] }",
    `7:29: type must be Exact or PathPrefix or RegularExpression, is the string "Prefix"`,
    `7:80: type must be Exact or RegularExpression, is the string "Prefix"`,
  ],
  [
    "a regular expression that is not RE2's",
    "{ matches: [{ path: { type: RegularExpression, value: '/(?=a)' } }] }",
    `7:54: "/(?=a)" is no regular expression of RE2, which has no look-around and no back-references: ` +
    "error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
  ],
  [
    "a regular expression that is too large",
    `{ matches: [{ path: { type: RegularExpression, value: '${"a{1000}".repeat(40)}' } }] }`,
    `7:54: the regular expression "${"a{1000}".repeat(40)}" is too large; write a shorter one`,
  ],
  [
    "a path that is too long",
    `{ matches: [{ path: { value: /${"a".repeat(1024)} } }] }`,
    "7:29: value is longer than 1024 characters",
  ],
  [
    "an unknown method",
    "{ matches: [{ method: get }] }",
    "7:21: method must be GET or HEAD or POST or PUT or DELETE or CONNECT or OPTIONS or TRACE or PATCH, " +
    `is the string "get"`,
  ],
  [
    "a header that is matched twice",
    "{ matches: [{ headers: [{ name: a, value: b }, { name: A, value: c }] }] }",
    "7:56: A is there twice in one match",
  ],
  [
    "a query parameter that is matched twice",
    "{ matches: [{ queryParams: [{ name: a, value: b }, { name: A, value: c }, { name: a, value: d }] }] }",
    "7:83: a is there twice in one match",
  ],
  [
    "headers that are none",
    "{ matches: [{ headers: [{ name: ':path', value: b }, { name: a, value: 1 }, { name: b }] }] }",
    `7:33: ":path" is no name of a header`,
    "7:71: value must be a text, is the number 1; write it in quotes",
    "7:83: value is missing",
  ],
  [
    "a filter of a type that ambit local does not know",
    "{ filters: [{ type: ExtensionRef, extensionRef: { group: a, kind: B, name: c } }, { type: ExternalAuth }] }",
    "7:21: HTTPRoute filters of the type ExtensionRef are not supported by ambit local; supported are " +
    "RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror, CORS",
    "7:91: HTTPRoute filters of the type ExternalAuth are not supported by ambit local; supported are " +
    "RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror, CORS",
  ],
  [
    "a filter without type, or without content, or with another's",
    "{ filters: [{}, { type: CORS }, { type: CORS, cors: {}, urlRewrite: {} }] }",
    "7:19: type is missing",
    "7:23: cors is missing",
    `7:63: unknown key "urlRewrite"; known are type, cors`,
  ],
  [
    "a filter that is there twice",
    "{ filters: [{ type: CORS, cors: {} }, { type: CORS, cors: {} }] }",
    "7:59: a rule has at most one filter of the type CORS",
  ],
  [
    "a redirect beside a rewrite",
    "{ filters: [{ type: RequestRedirect, requestRedirect: {} }, { type: URLRewrite, urlRewrite: {} }] }",
    "7:9: a rule has either RequestRedirect or URLRewrite, not both",
  ],
  [
    "a redirect beside backends",
    "{ filters: [{ type: RequestRedirect, requestRedirect: {} }], backendRefs: [{ name: a, port: 80 }] }",
    "7:68: a rule that redirects has no backendRefs; leave one of the two out",
  ],
  [
    "a redirect to nowhere",
    "{ filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 300, scheme: ftp, hostname: 'a b', port: 0 } }] }",
    "7:63: statusCode must be one of 301, 302, 303, 307, 308",
    `7:80: scheme must be http or https, is the string "ftp"`,
    `7:93: hostname must be a host name in lower case, is "a b"`,
    "7:110: port must be a whole number from 1 to 65535, is the number 0",
  ],
  [
    "a prefix of no match, and of two",
    "{ matches: [{ path: { type: Exact, value: /a } }], filters: " +
    "[{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } }] }",
    "7:58: ReplacePrefixMatch needs to know the prefix: the rule must have exactly one match, of the type PathPrefix",
  ],
  [
    "a modifier of paths with another's value, or with none",
    "{ filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replacePrefixMatch: /b } } }] }",
    "7:53: replaceFullPath is missing",
    `7:84: unknown key "replacePrefixMatch"; known are type, replaceFullPath`,
  ],
  [
    "a path that would end its line",
    `{ filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: "/a\\r\\nb: c" } } }] }`,
    "7:84: replaceFullPath holds a character that cannot be in a path",
  ],
  [
    "a value that would end its line",
    `{ filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: a, value: "b\\nc: d" }] } }] }`,
    "7:92: value holds a character that cannot be in a header",
  ],
  [
    "two actions for a header",
    "{ filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: a, value: b }], remove: [b, A] } }] }",
    "7:117: there is more than one action for the header A",
  ],
  [
    "a mirror of two shares, or of a share above all",
    "{ filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a, port: 80 }, percent: 101, fraction: { numerator: 2, denominator: 1 } } }] }",
    "7:108: a mirror has either percent or fraction, not both",
    "7:120: numerator must be a whole number from 0 to 1, is the number 2",
  ],
  [
    "a mirror to nowhere",
    "{ filters: [{ type: RequestMirror, requestMirror: { percent: 101 } }] }",
    "7:42: backendRef is missing",
    "7:59: percent must be a whole number from 0 to 100, is the number 101",
  ],
  [
    "CORS that means nothing",
    "{ filters: [{ type: CORS, cors: { allowOrigins: ['*', 'a.example'], allowMethods: [GTE], maxAge: 0, allowHeaders: [a b] } }] }",
    `7:41: allowOrigins cannot hold "*" and something else`,
    `7:61: "a.example" is no origin; write it like "https://example.com" or "https://*.example.com"`,
    "7:90: GTE is no method; write one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, *",
    "7:96: maxAge must be a whole number from 1 to 2147483647, is the number 0",
    `7:122: "a b" is no name of a header`,
  ],
  [
    "backends that are none",
    "{ backendRefs: [{ name: a }, { name: a.b, port: 80 }, { kind: ServiceImport, name: a, port: 80, weight: -1 }] }",
    "7:23: port is missing",
    "7:38: name is the name of a Service, not its hostname",
    "7:63: a backend must be a Service: {name: ..., port: ...} without group and kind",
    "7:103: weight must be a whole number from 0 to 1000000, is the number -1",
  ],
  [
    "filters of a backend that a waypoint does not have",
    "{ backendRefs: [{ name: a, port: 80, filters: [{ type: URLRewrite, urlRewrite: {} }] }] }",
    "7:56: backendRef filters of the type URLRewrite are not supported by ambit local; supported are " +
    "RequestHeaderModifier, ResponseHeaderModifier",
  ],
  [
    "timeouts that are none",
    "{ timeouts: { request: 1.5s, backendRequest: 10 } }",
    `7:21: request must be a duration like 10s, 1m30s or 500ms, is "1.5s"`,
    "7:36: backendRequest must be a text, is the number 10; write it in quotes",
  ],
  [
    "a try that is longer than all of them",
    "{ timeouts: { request: 1s, backendRequest: 1001ms } }",
    "7:34: backendRequest cannot be longer than request, which holds for all tries together",
  ],
  [
    "retries that are none",
    "{ retry: { codes: [200, x], attempts: 1.5, backoff: 0s } }",
    "7:26: a status code to try again is a number from 400 to 599, not the number 200",
    `7:31: a status code to try again is a number from 400 to 599, not the string "x"`,
    "7:35: attempts must be a whole number from 0 to 2147483647, is the number 1.5",
    "7:50: backoff must be longer than 0s",
  ],
];

for (const [name, text, ...problems] of SPECS) {
  test(`kube HTTPRoute: refuses ${name}`, () => expectRefused([name, HEAD + text, ...problems]));
}
for (const [name, rule, ...problems] of RULES) {
  const text = `${HEAD}spec:\n${PARENT}  rules:\n    - ${rule}\n`;
  test(`kube HTTPRoute: refuses ${name}`, () => expectRefused([name, text, ...problems]));
}
