/** Gateway API conformance, mesh profile: which rule a request takes, and which backend. */
import { conformance, type Feature, type Mesh } from "../support/conformance.ts";
import { backend, httpRoute, route } from "../support/objects.ts";
import { below, prefix, type Rule } from "../support/routes.ts";
import { countApps, httpRow, type Row, type Wanted } from "../support/rows.ts";
import type { LabService } from "../support/services.ts";

/** Requests to `echo`, as the suite writes them: path, headers, and who must answer; a number: this status. */
type Asked = readonly [path: string, wanted: "alpha" | "beta" | number, headers?: Readonly<Record<string, string>>];

function asked({ echo, from }: Mesh, ...rows: readonly Asked[]): readonly Row[] {
  return rows.map(([path, wanted, headers = {}]) => {
    const expected: Wanted = typeof wanted === "number" ? { status: wanted } : { app: wanted, path };
    return httpRow(`${path} ${JSON.stringify(headers)}`, from, echo.url("http", path), {
      headers: { host: "echo", ...headers },
    }, expected);
  });
}

function laid(name: string, echo: LabService, port: number | undefined, rules: readonly Rule[]) {
  return httpRoute(name, echo, rules, port);
}

const SAMPLES = 250;
/** Of a share of 0.7 in 250 requests this is more than four standard deviations. */
const TOLERANCE = 0.12;

function weighted(name: string, ask: () => Promise<string>): Row {
  return {
    name,
    async check() {
      const { alpha = 0, beta = 0, ...others } = await countApps(SAMPLES, ask);
      const share = alpha / SAMPLES;
      if (Math.abs(share - 0.7) > TOLERANCE || alpha + beta !== SAMPLES) {
        throw new Error(`of ${SAMPLES} requests alpha got ${alpha}, beta ${beta}, others ${JSON.stringify(others)}`);
      }
    },
  };
}

const animal = (value: string) => [{ name: "animal", value }];
const version = (value: string) => [{ name: "version", value }];

const FEATURES: readonly Feature[] = [
  {
    name: "MeshBasic",
    objects: () => [],
    rows: ({ echo, from }) => [httpRow("no configuration", from, echo.url("http"), { headers: { host: "echo" } }, {})],
  },
  {
    name: "MeshHTTPRouteSimpleSameNamespace",
    objects: (
      { echo, v1, name },
    ) => [
      laid(name, echo, 80, [{ backendRefs: [backend(v1, 8080)] }]),
    ],
    rows: (mesh) => asked(mesh, ["/", "alpha"]),
  },
  {
    name: "MeshHTTPRouteMatching",
    objects: ({ echo, v1, v2, name }) => [
      laid(name, echo, 80, [
        { matches: [prefix("/"), { headers: version("one") }], backendRefs: [backend(v1, 8080)] },
        { matches: [prefix("/v2"), { headers: version("two") }], backendRefs: [backend(v2, 8080)] },
      ]),
    ],
    rows: (mesh) =>
      asked(
        mesh,
        ["/", "alpha"],
        ["/example", "alpha"],
        ["/", "alpha", { version: "one" }],
        ["/v2", "beta"],
        ["/v2/example", "beta"],
        ["/", "beta", { version: "two" }],
        ["/v2/", "beta"],
        ["/v2example", "alpha"],
        ["/foo/v2/example", "alpha"],
      ),
  },
  {
    name: "MeshHTTPRouteQueryParamMatching",
    objects: ({ echo, v1, v2, name }) => {
      const [one, two] = [[backend(v1, 8080)], [backend(v2, 8080)]];
      return [
        laid(name, echo, 80, [
          { matches: [{ queryParams: animal("whale") }], backendRefs: one },
          { matches: [{ queryParams: animal("dolphin") }], backendRefs: two },
          { matches: [{ ...prefix("/path1"), queryParams: animal("whale") }], backendRefs: one },
          { matches: [{ headers: version("one"), queryParams: animal("whale") }], backendRefs: two },
          {
            matches: [
              { ...prefix("/path3"), queryParams: animal("shark") },
              { ...prefix("/path4"), headers: version("three"), queryParams: animal("kraken") },
            ],
            backendRefs: one,
          },
          { matches: [prefix("/path5")], backendRefs: one },
          { matches: [{ queryParams: animal("hydra") }], backendRefs: two },
        ]),
      ];
    },
    rows: (mesh) =>
      asked(
        mesh,
        ["/?animal=whale", "alpha"],
        ["/?animal=dolphin", "beta"],
        ["/?animal=whale&otherparam=irrelevant", "alpha"],
        ["/?animal=dolphin&color=yellow", "beta"],
        ["/?color=blue", 404],
        ["/?animal=dog", 404],
        ["/?animal=whaledolphin", 404],
        ["/", 404],
        ["/path1?animal=whale", "alpha"],
        ["/?animal=whale", "beta", { version: "one" }],
        ["/path3?animal=shark", "alpha"],
        ["/path4?animal=kraken", "alpha", { version: "three" }],
        ["/?animal=shark", 404],
        ["/path4?animal=kraken", 404],
        ["/path5?animal=hydra", "alpha"],
      ),
  },
  {
    name: "MeshHTTPRouteNamedRule",
    objects: ({ echo, v1, v2, name }) => [
      laid(name, echo, 80, [
        below("/named", { name: "named-rule", backendRefs: [backend(v1, 8080)] }),
        below("/unnamed", { backendRefs: [backend(v2, 8080)] }),
      ]),
    ],
    rows: (mesh) => asked(mesh, ["/named", "alpha"], ["/unnamed", "beta"]),
  },
  {
    name: "MeshTrafficSplit",
    objects: ({ echo, v1, v2, name }) => [
      laid(name, echo, undefined, [
        { matches: [{ path: { type: "Exact", value: "/v1" } }], backendRefs: [backend(v1, 80)] },
        { matches: [{ path: { type: "Exact", value: "/v2" } }], backendRefs: [backend(v2, 80)] },
      ]),
    ],
    rows: (mesh) => asked(mesh, ["/v1", "alpha"], ["/v2", "beta"], ["/v1/more", 404]),
  },
  {
    name: "MeshHTTPRouteWeight",
    objects: ({ echo, v1, v2, name }) => [
      laid(name, echo, 80, [
        {
          backendRefs: [
            backend(v1, 8080, 70),
            backend(v2, 8080, 30),
          ],
        },
      ]),
    ],
    rows: ({ echo, from }) => [
      weighted("70 to 30", async () => (await from.app.echo(echo.url("http"), { headers: { host: "echo" } })).app),
    ],
  },
  {
    name: "MeshGRPCRouteWeight",
    objects: ({ echo, v1, v2, name }) => [
      route("GRPCRoute", name, echo, [
        {
          backendRefs: [
            backend(v1, 7070, 70),
            backend(v2, 7070, 30),
            // There is none of this name.
            { name: "echo-v3", port: 7070, weight: 0 },
          ],
        },
      ], 7070),
    ],
    rows: ({ echo, from }) => [
      weighted("70 to 30 to 0", async () => {
        const { code, details, messages } = await from.app.grpc(echo.address("grpc"), {
          method: "Unary",
          authority: "echo",
        });
        if (code !== 0) throw new Error(`${code} ${details}`);
        return String(messages[0]?.["app"]);
      }),
    ],
  },
];

conformance(...FEATURES);
