/**
 * Reads the Kubernetes objects of a mesh file. Each document is one object, or a List of objects as `kubectl get -o yaml` prints it.
 */
import { type FieldReader, type Fields, kindOf } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readAuthorizationPolicy } from "./authorization_policy.ts";
import { readGateway } from "./gateway.ts";
import { readGrpcRoute } from "./grpc_route.ts";
import { readHttpRoute } from "./http_route.ts";
import { readNamespace } from "./namespace.ts";
import { readRequestAuthentication } from "./request_authentication.ts";
import type {
  AuthorizationPolicy,
  KubeObjects,
  ObjectHead,
  RequestAuthentication,
  RouteObject,
  WaypointGateway,
} from "./objects.ts";

/** A document that has an apiVersion or a kind. */
export interface KubeDocument {
  readonly value: unknown;
  /** Where it stands in the file. */
  readonly path: SourcePath;
}

interface Lists {
  readonly namespaces: ObjectHead[];
  readonly gateways: WaypointGateway[];
  readonly routes: RouteObject[];
  readonly policies: AuthorizationPolicy[];
  readonly authentications: RequestAuthentication[];
}

interface Kind {
  /** The first is the one to write. */
  readonly versions: readonly string[];
  /** Reads an object of this kind into its list. */
  read(reader: FieldReader, fields: Fields, path: SourcePath, lists: Lists): ObjectHead;
}

const GATEWAY_API = ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"] as const;

function kind<T extends ObjectHead>(
  versions: readonly string[],
  read: (reader: FieldReader, fields: Fields, path: SourcePath) => T,
  listOf: (lists: Lists) => T[],
): Kind {
  return {
    versions,
    read(reader, fields, path, lists) {
      const object = read(reader, fields, path);
      listOf(lists).push(object);
      return object;
    },
  };
}

const GRPC_ROUTE = ["gateway.networking.k8s.io/v1"] as const;
const ISTIO_SECURITY = ["security.istio.io/v1", "security.istio.io/v1beta1"] as const;

const KINDS: ReadonlyMap<string, Kind> = new Map([
  ["AuthorizationPolicy", kind(ISTIO_SECURITY, readAuthorizationPolicy, ({ policies }) => policies)],
  ["Gateway", kind(GATEWAY_API, readGateway, ({ gateways }) => gateways)],
  ["GRPCRoute", kind(GRPC_ROUTE, readGrpcRoute, ({ routes }) => routes)],
  ["HTTPRoute", kind(GATEWAY_API, readHttpRoute, ({ routes }) => routes)],
  ["Namespace", kind(["v1"], readNamespace, ({ namespaces }) => namespaces)],
  ["RequestAuthentication", kind(ISTIO_SECURITY, readRequestAuthentication, ({ authentications }) => authentications)],
]);

const KNOWN = [...KINDS.keys()].sort().join(", ");
/** Kinds that the mesh document has another word for. */
const IN_MESH: Readonly<Record<string, string>> = { Service: "services", Pod: "pods", Node: "nodes" };

/** What is wrong goes to `reader`; then what is returned is of no use. */
export function readKubeObjects(reader: FieldReader, documents: readonly KubeDocument[]): KubeObjects {
  const lists: Lists = { namespaces: [], gateways: [], routes: [], policies: [], authentications: [] };
  const seen = new Set<string>();
  for (const { value, path } of documents.flatMap((document) => expandList(reader, document))) {
    const fields = reader.object(value, path);
    const kind = kindNamed(reader, fields, path);
    if (kind === undefined) continue;
    const { name, namespace } = kind.read(reader, fields, path, lists);
    // One of a cluster is in no namespace.
    const key = fields.kind === "Namespace" ? name : `${namespace}/${name}`;
    if (name === "") continue;
    if (seen.has(`${fields.kind} ${key}`)) {
      reader.fail([...path, "metadata", "name"], `${fields.kind} ${key} is there twice`);
    }
    seen.add(`${fields.kind} ${key}`);
  }
  return {
    ...lists,
    namespaces: new Map(lists.namespaces.map(({ name, labels }) => [name, labels])),
    namespacePaths: new Map(lists.namespaces.map(({ name, path }) => [name, path])),
  };
}

function expandList(reader: FieldReader, document: KubeDocument): readonly KubeDocument[] {
  const { value, path } = document;
  if (typeof value !== "object" || value === null || !("kind" in value) || value.kind !== "List") return [document];
  const list = value as Fields;
  reader.onlyKnown(list, ["apiVersion", "kind", "metadata", "items"], path);
  if (list.apiVersion !== "v1") reader.fail([...path, "apiVersion"], "the apiVersion of a List is v1");
  return reader.list(list, "items", path).map(({ fields, path }) => ({ value: fields, path }));
}

function kindNamed(reader: FieldReader, fields: Fields, path: SourcePath): Kind | undefined {
  if (fields.kind === undefined) return reader.fail(path, `kind is missing; known are ${KNOWN}`);
  const kind = typeof fields.kind === "string" ? KINDS.get(fields.kind) : undefined;
  if (kind === undefined) {
    const what = typeof fields.kind === "string" ? `the kind ${fields.kind}` : kindOf(fields.kind);
    const list = Object.hasOwn(IN_MESH, `${fields.kind}`) ? IN_MESH[`${fields.kind}`] : undefined;
    const hint = list === undefined ? `known are ${KNOWN}` : `write it in the mesh document, under ${list}`;
    return reader.fail([...path, "kind"], `${what} is not known to ambit local; ${hint}`);
  }
  const version = fields.apiVersion;
  if (typeof version === "string" && kind.versions.includes(version)) return kind;
  if (version === undefined) return reader.fail(path, `apiVersion is missing; write apiVersion: ${kind.versions[0]}`);
  const is = typeof version === "string" ? `is ${version}` : `is ${kindOf(version)}`;
  return reader.fail(
    [...path, "apiVersion"],
    `the apiVersion of ${fields.kind} must be ${kind.versions.join(" or ")}, ${is}`,
  );
}
