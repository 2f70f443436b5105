/** Gateway API conformance, mesh profile: redirects. Where the suite looks at the status alone, the whole location is looked at here. */
import { conformance, type Feature } from "../support/conformance.ts";
import { httpRoute } from "../support/objects.ts";
import { below, redirect, replaceAll, replacePrefix, type Rule } from "../support/routes.ts";
import { httpRow } from "../support/rows.ts";

/** A rule for all below a path: where to, and what a request to `path` (default: the rule's) must be answered. */
type Redirect = readonly [below: string, to: Rule, status: number, location: string, path?: string];

function redirects(name: string, ...rules: readonly Redirect[]): Feature {
  return {
    name,
    objects: ({ echo, name }) => [
      httpRoute(name, echo, rules.map(([path, to]) => below(path, { filters: [redirect(to)] })), 80),
    ],
    rows: ({ echo, from }) =>
      rules.map(([rule, , status, location, path = rule]) =>
        httpRow(path, from, echo.url("http", path), { headers: { host: "echo" } }, { status, headers: { location } })
      ),
  };
}

const hostname = "example.org";

conformance(
  redirects("MeshHTTPRoute303Redirect", ["/redirect", { statusCode: 303 }, 303, "http://echo/redirect"]),
  redirects("MeshHTTPRoute307Redirect", ["/temporary", { statusCode: 307 }, 307, "http://echo/temporary"]),
  redirects("MeshHTTPRoute308Redirect", ["/permanent", { statusCode: 308 }, 308, "http://echo/permanent"]),
  redirects(
    "MeshHTTPRouteRedirectHostAndStatus",
    ["/hostname-redirect", { hostname }, 302, "http://example.org/hostname-redirect"],
    ["/host-and-status", { hostname, statusCode: 301 }, 301, "http://example.org/host-and-status"],
  ),
  redirects(
    "MeshHTTPRouteRedirectPath",
    [
      "/original-prefix",
      { path: replacePrefix("/replacement-prefix") },
      302,
      "http://echo/replacement-prefix/lemon",
      "/original-prefix/lemon",
    ],
    [
      "/full",
      { path: replaceAll("/full-path-replacement") },
      302,
      "http://echo/full-path-replacement",
      "/full/path/original",
    ],
    [
      "/path-and-host",
      { hostname, path: replacePrefix("/replacement-prefix") },
      302,
      "http://example.org/replacement-prefix",
    ],
    [
      "/path-and-status",
      { path: replacePrefix("/replacement-prefix"), statusCode: 301 },
      301,
      "http://echo/replacement-prefix",
    ],
    [
      "/full-path-and-host",
      { hostname, path: replaceAll("/replacement-full") },
      302,
      "http://example.org/replacement-full",
    ],
    [
      "/full-path-and-status",
      { path: replaceAll("/replacement-full"), statusCode: 301 },
      301,
      "http://echo/replacement-full",
    ],
  ),
  redirects(
    "MeshHTTPRouteRedirectPort",
    ["/port", { port: 8083 }, 302, "http://echo:8083/port"],
    ["/port-and-host", { hostname, port: 8083 }, 302, "http://example.org:8083/port-and-host"],
    ["/port-and-status", { port: 8083, statusCode: 301 }, 301, "http://echo:8083/port-and-status"],
    [
      "/port-and-host-and-status",
      { hostname, port: 8083, statusCode: 302 },
      302,
      "http://example.org:8083/port-and-host-and-status",
    ],
  ),
  redirects(
    "MeshHTTPRouteSchemeRedirect",
    ["/scheme", { scheme: "https" }, 302, "https://echo/scheme"],
    ["/scheme-and-host", { hostname, scheme: "https" }, 302, "https://example.org/scheme-and-host"],
    ["/scheme-and-status", { scheme: "https", statusCode: 301 }, 301, "https://echo/scheme-and-status"],
    [
      "/scheme-and-host-and-status",
      { hostname, scheme: "https", statusCode: 302 },
      302,
      "https://example.org/scheme-and-host-and-status",
    ],
  ),
);
