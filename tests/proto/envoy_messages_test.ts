/**
 * Envoy's messages as `deno task gen` makes them, against what a real istiod sent to waypoints (tests/fixtures/waypoint: one
 * DeltaDiscoveryResponse a file): every type is known, and no field is left over.
 */
import { createRegistry, type DescFile, fromBinary, isMessage, type Message } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { DeltaDiscoveryResponseSchema, ResourceSchema } from "../../src/gen/xds/delta_discovery_pb.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures/waypoint", import.meta.url));
const GENERATED = fileURLToPath(new URL("../../src/gen", import.meta.url));

/** Types that are only named, inside a TypedStruct: reviewed by hand. */
const TYPED_STRUCTS = new Set([
  "envoy.tcp.metadataexchange.config.MetadataExchange",
  "io.istio.http.peer_metadata.Config",
]);
/** What no waypoint of ambit runs, and so has no messages: it fails closed where it stands. */
const REFUSED = new Set([
  "envoy.extensions.filters.http.lua.v3.Lua",
  "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
]);

async function loadRegistry() {
  const files = readdirSync(GENERATED, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("_pb.ts"));
  const descriptors: DescFile[] = [];
  for (const file of files) {
    const module: Record<string, unknown> = await import(pathToFileURL(join(GENERATED, file)).href);
    for (const [name, value] of Object.entries(module)) {
      if (name.startsWith("file_")) descriptors.push(value as DescFile);
    }
  }
  return createRegistry(...descriptors);
}

/** Walks a message with everything packed inside it; adds what is not known to `problems`. */
function inspect(
  value: unknown,
  path: string,
  registry: ReturnType<typeof createRegistry>,
  problems: Set<string>,
): void {
  if (Array.isArray(value)) return value.forEach((item) => inspect(item, path, registry, problems));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  if (isMessage(value)) {
    for (const { no } of value.$unknown ?? []) problems.add(`${value.$typeName}: field ${no}`);
    if (isMessage(value, AnySchema)) return inspectAny(value, path, registry, problems);
    if (value.$typeName === "udpa.type.v1.TypedStruct") {
      const name = nameOf((value as Message & { typeUrl: string }).typeUrl);
      if (!TYPED_STRUCTS.has(name)) problems.add(`${path}: unknown TypedStruct ${name}`);
    }
  }
  for (const [key, child] of Object.entries(value)) {
    if (!key.startsWith("$")) inspect(child, `${path}.${key}`, registry, problems);
  }
}

function inspectAny(any: Any, path: string, registry: ReturnType<typeof createRegistry>, problems: Set<string>): void {
  const name = nameOf(any.typeUrl);
  if (REFUSED.has(name) || name === "" || name.startsWith("google.protobuf.")) return;
  const schema = registry.getMessage(name);
  if (schema === undefined) return void problems.add(`${path}: unknown type ${name}`);
  inspect(fromBinary(schema, any.value), `${path}(${schema.name})`, registry, problems);
}

function nameOf(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}

test("envoy messages: every type and every field of what istiod sent is known", async () => {
  const registry = await loadRegistry();
  const problems = new Set<string>();
  let count = 0;
  for (const name of readdirSync(FIXTURES, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".binpb")) continue;
    const response = fromBinary(DeltaDiscoveryResponseSchema, readFileSync(join(FIXTURES, name)));
    for (const bytes of response.resources) {
      const { resource } = fromBinary(ResourceSchema, bytes);
      inspect(resource, name, registry, problems);
      count++;
    }
  }
  assert.deepEqual([...problems], []);
  assert.ok(count > 150, `${count} resources`);
});
