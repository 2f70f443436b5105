/** Gateway API conformance, mesh profile: header changes of rules and of backends, and rewritten paths. */
import { conformance, type Feature, type Mesh } from "../support/conformance.ts";
import { backend, httpRoute, route } from "../support/objects.ts";
import {
  below,
  type HeaderChange,
  replaceAll,
  replacePrefix,
  requestHeaders,
  rewrite,
  type Rule,
} from "../support/routes.ts";
import { httpRow, type Row } from "../support/rows.ts";

type Fields = Readonly<Record<string, string>>;
/** `undefined`: the application must not get it. */
type Got = Readonly<Record<string, string | undefined>>;

const CHANGES: Readonly<Record<string, HeaderChange>> = {
  "/set": { set: { "X-Header-Set": "set-overwrites-values" } },
  "/add": { add: { "X-Header-Add": "add-appends-values" } },
  "/remove": { remove: ["X-Header-Remove"] },
  "/multiple": {
    set: { "X-Header-Set-1": "header-set-1", "X-Header-Set-2": "header-set-2" },
    add: { "X-Header-Add-1": "header-add-1", "X-Header-Add-2": "header-add-2", "X-Header-Add-3": "header-add-3" },
    remove: ["X-Header-Remove-1", "X-Header-Remove-2"],
  },
  "/case-insensitivity": {
    set: { "X-Header-Set": "header-set" },
    add: { "X-Header-Add": "header-add" },
    remove: ["X-Header-Remove"],
  },
};

const CHANGED: readonly (readonly [path: string, sent: Fields, got: Got])[] = [
  ["/set", { "Some-Other-Header": "val" }, { "some-other-header": "val", "x-header-set": "set-overwrites-values" }],
  [
    "/set",
    { "Some-Other-Header": "val", "X-Header-Set": "some-other-value" },
    { "some-other-header": "val", "x-header-set": "set-overwrites-values" },
  ],
  ["/add", { "Some-Other-Header": "val" }, { "some-other-header": "val", "x-header-add": "add-appends-values" }],
  ["/add", { "X-Header-Add": "some-other-value" }, { "x-header-add": "some-other-value,add-appends-values" }],
  ["/remove", { "X-Header-Remove": "val" }, { "x-header-remove": undefined }],
  [
    "/multiple",
    {
      "X-Header-Set-2": "set-val-2",
      "X-Header-Add-2": "add-val-2",
      "X-Header-Remove-2": "remove-val-2",
      "Another-Header": "another-header-val",
    },
    {
      "x-header-set-1": "header-set-1",
      "x-header-set-2": "header-set-2",
      "x-header-add-1": "header-add-1",
      "x-header-add-2": "add-val-2,header-add-2",
      "x-header-add-3": "header-add-3",
      "another-header": "another-header-val",
      "x-header-remove-1": undefined,
      "x-header-remove-2": undefined,
    },
  ],
  [
    "/case-insensitivity",
    {
      "x-header-set": "original-val-set",
      "x-header-add": "original-val-add",
      "x-header-remove": "original-val-remove",
    },
    { "x-header-set": "header-set", "x-header-add": "original-val-add,header-add", "x-header-remove": undefined },
  ],
];

/** The same changes by a filter of the rule or of its backend. */
function headerChanges(name: string, ruleOf: (filter: Rule, backendRef: Rule) => Rule): Feature {
  return {
    name,
    objects: ({ echo, v1, name }) => [
      httpRoute(
        name,
        echo,
        Object.entries(CHANGES).map(([path, change]) => below(path, ruleOf(requestHeaders(change), backend(v1, 8080)))),
        80,
      ),
    ],
    rows: ({ echo, from }) =>
      CHANGED.map(([path, sent, got]) =>
        httpRow(
          `${path} ${JSON.stringify(sent)}`,
          from,
          echo.url("http", path),
          { headers: { host: "echo", ...sent } },
          { app: "alpha", path, got },
        )
      ),
  };
}

const MODIFIED: HeaderChange = {
  set: { "X-Header-Set": "set-overwrites-values" },
  add: { "X-Header-Add": "header-val-1", "X-Header-Add-Append": "header-val-2" },
  remove: ["X-Header-Remove"],
};
const REWRITES: Readonly<Record<string, readonly Rule[]>> = {
  "/prefix/one": [rewrite({ path: replacePrefix("/one") })],
  "/strip-prefix": [rewrite({ path: replacePrefix("/") })],
  "/full/one": [rewrite({ path: replaceAll("/one") })],
  "/full/rewrite-path-and-modify-headers": [rewrite({ path: replaceAll("/test") }), requestHeaders(MODIFIED)],
  "/prefix/rewrite-path-and-modify-headers": [rewrite({ path: replacePrefix("/prefix") }), requestHeaders(MODIFIED)],
};
const SENT: Fields = {
  "X-Header-Remove": "remove-val",
  "X-Header-Add-Append": "append-val-1",
  "X-Header-Set": "set-val",
};
const GOT: Got = {
  "x-header-add": "header-val-1",
  "x-header-add-append": "append-val-1,header-val-2",
  "x-header-set": "set-overwrites-values",
  "x-header-remove": undefined,
};
const REWRITTEN: readonly (readonly [path: string, became: string, sent?: Fields, got?: Got])[] = [
  ["/prefix/one/two", "/one/two"],
  ["/strip-prefix/three", "/three"],
  ["/strip-prefix", "/"],
  ["/full/one/two", "/one"],
  ["/full/rewrite-path-and-modify-headers/test", "/test", SENT, GOT],
  ["/prefix/rewrite-path-and-modify-headers/one", "/prefix/one", SENT, GOT],
];

const rewrites: Feature = {
  name: "MeshHTTPRouteRewritePath",
  objects: ({ echo, v1, name }) => [
    httpRoute(
      name,
      echo,
      Object.entries(REWRITES).map(([path, filters]) => below(path, { filters, backendRefs: [backend(v1)] })),
      80,
    ),
  ],
  rows: ({ echo, from }) =>
    REWRITTEN.map(([path, became, sent = {}, got = {}]) =>
      httpRow(path, from, echo.url("http", path), { headers: { host: "echo", ...sent } }, {
        app: "alpha",
        path: became,
        got,
      })
    ),
};

const GRPC_CHANGES: Readonly<Record<string, HeaderChange>> = {
  set: { set: { "x-header-set": "set-overwrites-values" } },
  add: { add: { "x-header-add": "add-appends-values" } },
  remove: { remove: ["x-header-remove"] },
  multi: {
    set: { "x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2" },
    add: { "x-header-add-1": "header-add-1", "x-header-add-2": "header-add-2" },
    remove: ["x-header-remove-1", "x-header-remove-2"],
  },
};
const GRPC_CHANGED: readonly (readonly [which: string, app: string, sent: Fields, got: Got])[] = [
  [
    "set",
    "alpha",
    { "some-other-header": "this-header-should-be-set", "x-header-set": "this-value-should-be-overwritten" },
    { "some-other-header": "this-header-should-be-set", "x-header-set": "set-overwrites-values" },
  ],
  ["add", "alpha", { "x-header-add": "this-value-should-be-appended" }, {
    "x-header-add": "this-value-should-be-appended,add-appends-values",
  }],
  ["remove", "alpha", { "x-header-remove": "this-should-be-removed" }, { "x-header-remove": undefined }],
  [
    "multi",
    "beta",
    { "x-header-set-2": "set-header-2", "x-header-add-2": "add-header-2", "x-header-remove-2": "should-be-removed-2" },
    {
      "x-header-set-1": "header-set-1",
      "x-header-set-2": "header-set-2",
      "x-header-add-1": "header-add-1",
      "x-header-add-2": "add-header-2,header-add-2",
      "x-header-remove-1": undefined,
      "x-header-remove-2": undefined,
    },
  ],
];

function grpcRow({ echo, from }: Mesh, [which, app, sent, got]: (typeof GRPC_CHANGED)[number]): Row {
  return {
    name: which,
    async check() {
      const metadata = { "x-test-case": which, ...sent };
      const answer = await from.app.grpc(echo.address("grpc"), { method: "Unary", authority: "echo:7070", metadata });
      const told = answer.messages[0] as { readonly app: string; readonly metadata: Fields } | undefined;
      if (told?.app !== app) {
        throw new Error(`${app} did not answer, but ${told?.app}: ${answer.code} ${answer.details}`);
      }
      for (const [name, value] of Object.entries({ "x-test-case": which, ...got })) {
        const is = told.metadata[name]?.replaceAll(", ", ",");
        if (is !== value) throw new Error(`${name} is ${is}, not ${value}`);
      }
    },
  };
}

const grpcHeaders: Feature = {
  name: "MeshGRPCRouteRequestHeaderModifier",
  objects: ({ echo, v1, v2, name }) => [
    route(
      "GRPCRoute",
      name,
      echo,
      Object.entries(GRPC_CHANGES).map(([value, change]) => ({
        matches: [{ headers: [{ name: "x-test-case", value }] }],
        filters: [requestHeaders(change)],
        backendRefs: [backend(value === "multi" ? v2 : v1, 7070)],
      })),
      7070,
    ),
  ],
  rows: (mesh) => GRPC_CHANGED.map((row) => grpcRow(mesh, row)),
};

conformance(
  headerChanges("MeshHTTPRouteRequestHeaderModifier", (filter, ref) => ({ filters: [filter], backendRefs: [ref] })),
  headerChanges(
    "MeshHTTPRouteBackendRequestHeaderModifier",
    (filter, ref) => ({ backendRefs: [{ ...ref, filters: [filter] }] }),
  ),
  rewrites,
  grpcHeaders,
);
