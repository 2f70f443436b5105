/** Filters of a route's rule, as parts of Envoy's routes (waypoint.md 4.2, 4.3). */
import type { JsonObject } from "@bufbuild/protobuf";
import type { HeaderModifier, PathModifier, RouteFilters, RouteMatch } from "../kube/objects.ts";
import { prefixOf } from "./route_match.ts";
import { quoted } from "./text_matchers.ts";
import { packed } from "./xds_resource.ts";

const MILLION = 1_000_000;
/** What a URL of http need not say. */
const HTTP_PORT = 80;

export function headerChanges(
  request: HeaderModifier | undefined,
  response: HeaderModifier | undefined,
): JsonObject {
  return { ...changes("request", request), ...changes("response", response) };
}

/** To set the header Host is to call for another host: Envoy changes no such header, and istiod writes it so. */
export function hostRewrite(request: HeaderModifier | undefined): JsonObject {
  const host = request?.set.find(isHost);
  return host === undefined ? {} : { host_rewrite_literal: host.value };
}

function isHost({ name }: { readonly name: string }): boolean {
  return name.toLowerCase() === "host";
}

function changes(side: "request" | "response", modifier: HeaderModifier | undefined): JsonObject {
  if (modifier === undefined) return {};
  const added = [
    ...modifier.set.filter((header) => side === "response" || !isHost(header)).map(({ name, value }) => ({
      append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
      header: { key: name, value },
    })),
    ...modifier.add.map(({ name, value }) => ({ header: { key: name, value } })),
  ];
  return {
    ...(added.length === 0 ? {} : { [`${side}_headers_to_add`]: added }),
    ...(modifier.remove.length === 0 ? {} : { [`${side}_headers_to_remove`]: [...modifier.remove] }),
  };
}

const REDIRECT_CODES: Readonly<Record<number, string>> = {
  301: "MOVED_PERMANENTLY",
  302: "FOUND",
  303: "SEE_OTHER",
  307: "TEMPORARY_REDIRECT",
  308: "PERMANENT_REDIRECT",
};

/** `servicePort`: where a redirect stays that names neither scheme nor port. */
export function redirectAction(
  redirect: NonNullable<RouteFilters["redirect"]>,
  match: RouteMatch,
  servicePort: number,
): JsonObject {
  const { scheme, hostname, statusCode, path } = redirect;
  const port = redirect.port ?? (scheme === undefined && servicePort !== HTTP_PORT ? servicePort : undefined);
  return {
    response_code: REDIRECT_CODES[statusCode]!,
    ...(scheme === undefined ? {} : { scheme_redirect: scheme }),
    ...(hostname === undefined ? {} : { host_redirect: hostname }),
    ...(port === undefined ? {} : { port_redirect: port }),
    ...(path === undefined
      ? {}
      : path.type === "ReplaceFullPath"
      ? { path_redirect: path.value }
      : newPrefix(path, match)),
  };
}

export function rewriteParts(rewrite: RouteFilters["rewrite"], match: RouteMatch): JsonObject {
  if (rewrite === undefined) return {};
  const { hostname, path } = rewrite;
  return {
    ...(hostname === undefined ? {} : { host_rewrite_literal: hostname }),
    ...(path === undefined
      ? {}
      : path.type === "ReplaceFullPath"
      ? { regex_rewrite: { pattern: { regex: "/.*" }, substitution: escaped(path.value) } }
      : newPrefix(path, match)),
  };
}

/** `/` in place of a prefix must not leave two slashes. */
function newPrefix({ value }: PathModifier, { path }: RouteMatch): JsonObject {
  const prefix = prefixOf(path.value);
  if (prefixOf(value) === "") {
    return { regex_rewrite: { pattern: { regex: `^${quoted(prefix)}(/?)(.*)` }, substitution: "/\\2" } };
  }
  // Of every path: what is replaced is the slash it begins with.
  return { prefix_rewrite: prefix === "" ? `${prefixOf(value)}/` : prefixOf(value) };
}

export function mirrorPolicies(
  mirrors: RouteFilters["mirrors"],
  cluster: (ref: RouteFilters["mirrors"][number]["backend"]) => string,
): JsonObject {
  if (mirrors.length === 0) return {};
  return {
    request_mirror_policies: mirrors.map(({ backend, percent }) => ({
      cluster: cluster(backend),
      disable_shadow_host_suffix_append: true,
      runtime_fraction: {
        default_value: { denominator: "MILLION", numerator: Math.round(percent / 100 * MILLION) },
      },
      trace_sampled: false,
    })),
  };
}

export function corsPolicy(cors: RouteFilters["cors"]): JsonObject {
  if (cors === undefined) return {};
  const { allowOrigins, allowMethods, allowHeaders, exposeHeaders, allowCredentials, maxAgeSeconds } = cors;
  const lists = { allow_methods: allowMethods, allow_headers: allowHeaders, expose_headers: exposeHeaders };
  const type = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
  return {
    typed_per_filter_config: {
      "envoy.filters.http.cors": packed(type, {
        allow_origin_string_match: allowOrigins.map(origin),
        ...Object.fromEntries(
          Object.entries(lists).filter(([, list]) => list.length > 0).map(([key, list]) => [key, list.join(",")]),
        ),
        allow_credentials: allowCredentials,
        max_age: String(maxAgeSeconds),
        filter_enabled: { default_value: { numerator: 100 } },
        forward_not_matching_preflights: false,
      }),
    },
  };
}

function origin(pattern: string): JsonObject {
  if (!pattern.includes("*")) return { exact: pattern };
  return { safe_regex: { regex: `^${pattern.split("*").map(quoted).join(".*")}$` } };
}

/** In a substitution a backslash names a group. */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\");
}
