/**
 * What `deno task gen` generates from: the project's own proto/, and those files of Envoy's and xDS's API that proto/envoy.txt names
 * with all that they import, from the npm package that carries them. `protocInputs` puts them together in a directory; `slim`
 * takes out of what buf compiled the options that only other tools read, a third of the generated code.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { filesBelow, ROOT } from "./tools.ts";

const LIST = "proto/envoy.txt";
const PACKAGE = "node_modules/@grpc/grpc-js-xds";
/** The package's own include directories. */
const INCLUDES = ["envoy-api", "xds", "googleapis", "protoc-gen-validate"].map((name) => `${PACKAGE}/deps/${name}`);

/** Fields that istiod sends and the package's version of a file does not have yet. */
const ADDITIONS: readonly { readonly file: string; readonly after: string; readonly text: string }[] = [
  {
    file: "envoy/config/cluster/v3/cluster.proto",
    after: "repeated string lrs_report_endpoint_metrics = 57;",
    text: "google.protobuf.Duration dns_jitter = 58;",
  },
  {
    file: "envoy/config/trace/v3/zipkin.proto",
    after: 'import "google/protobuf/wrappers.proto";',
    text: 'import "envoy/config/core/v3/http_service.proto";',
  },
  {
    file: "envoy/config/trace/v3/zipkin.proto",
    after: "string collector_hostname = 6;",
    text: "enum TraceContextOption { USE_B3 = 0; USE_B3_WITH_W3C_PROPAGATION = 1; } " +
      "TraceContextOption trace_context_option = 8; core.v3.HttpService collector_service = 9;",
  },
  { file: "envoy/type/tracing/v3/custom_tag.proto", after: "Metadata metadata = 5;", text: "string value = 6;" },
  {
    file: "envoy/extensions/wasm/v3/wasm.proto",
    after: "CapabilityRestrictionConfig capability_restriction_config = 6;",
    text: "FailurePolicy failure_policy = 7;",
  },
  {
    file: "envoy/extensions/wasm/v3/wasm.proto",
    after: "option (udpa.annotations.file_status).package_version_status = ACTIVE;",
    text: "enum FailurePolicy { UNSPECIFIED = 0; FAIL_RELOAD = 1; FAIL_CLOSED = 2; FAIL_OPEN = 3; }",
  },
];

/** Everything the generated code depends on, as paths in the project. */
export function protoInputs(): readonly string[] {
  return [
    ...filesBelow("proto", ".proto"),
    LIST,
    "scripts/support/proto_sources.ts",
    ...[PACKAGE, "node_modules/@bufbuild/buf", "node_modules/@bufbuild/protoc-gen-es"].map((name) =>
      `${name}/package.json`
    ),
  ];
}

/** Writes all source files below `directory`. @throws Error when a file or the place of an addition is missing */
export function stage(directory: string): void {
  const own = filesBelow("proto", ".proto").map((path) => path.slice("proto/".length));
  const listed = readFileSync(join(ROOT, LIST), "utf8").split("\n").filter((line) =>
    line !== "" && !line.startsWith("#")
  );
  const waiting = [...own, ...listed];
  const done = new Set<string>();
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    // buf brings these itself.
    if (done.has(file) || file.startsWith("google/protobuf/")) continue;
    done.add(file);
    const text = withAdditions(file, readFileSync(find(file), "utf8"));
    for (const [, imported] of text.matchAll(/^import (?:public )?"([^"]+)"/gm)) waiting.push(imported);
    const path = join(directory, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

function find(file: string): string {
  const found = ["proto", ...INCLUDES].map((include) => join(ROOT, include, file)).find(existsSync);
  if (found === undefined) throw new Error(`${file} is in no include directory: see ${LIST}`);
  return found;
}

function withAdditions(file: string, original: string): string {
  // The package's own validate.proto is older than this annotation.
  let text = original.replaceAll(/,?\s*ignore_empty: true/g, "");
  for (const { file: target, after, text: added } of ADDITIONS) {
    if (target !== file) continue;
    if (!text.includes(after)) throw new Error(`${file} has no "${after}" any more: see ADDITIONS`);
    text = text.replace(after, `${after}\n${added}`);
  }
  return text;
}

/** A FileDescriptorSet without the annotations of validators and documentation, and without the files that define them. */
export function slim(bytes: Uint8Array): Uint8Array {
  const set = fromBinary(FileDescriptorSetSchema, bytes);
  set.file = set.file.filter(({ name }) => !isAnnotation(name));
  for (const file of set.file) {
    file.$unknown = undefined;
    dropDependencies(file);
    forget(file);
    file.messageType.forEach(slimMessage);
    file.enumType.forEach(slimEnum);
    for (const service of file.service) [service, ...service.method].forEach(forget);
  }
  return toBinary(FileDescriptorSetSchema, set);
}

function isAnnotation(name: string): boolean {
  return name.startsWith("validate/") || name.includes("/annotations/");
}

function dropDependencies(file: FileDescriptorProto): void {
  const kept = file.dependency.filter((name) => !isAnnotation(name));
  file.publicDependency = file.publicDependency.map((index) => kept.indexOf(file.dependency[index]));
  file.weakDependency = [];
  file.dependency = kept;
}

function slimMessage(message: DescriptorProto): void {
  [message, ...message.field, ...message.oneofDecl].forEach(forget);
  message.nestedType.forEach(slimMessage);
  message.enumType.forEach(slimEnum);
}

function slimEnum(declared: EnumDescriptorProto): void {
  [declared, ...declared.value].forEach(forget);
}

/** Custom options are extensions, which a reader without their files has as unknown fields. */
function forget({ options }: { options?: { $unknown?: unknown } }): void {
  if (options !== undefined) options.$unknown = undefined;
}
