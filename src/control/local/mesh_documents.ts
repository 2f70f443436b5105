/**
 * The YAML documents of a mesh file: one is the mesh (nodes, pods, services), every other one an object as written for
 * Kubernetes, which has a kind.
 */
import type { KubeDocument } from "./kube/mod.ts";
import { type Problem, readYamlDocuments, type SourcePath, type YamlDocument } from "./yaml_source.ts";

export interface MeshDocuments {
  readonly mesh: unknown;
  /** Their paths begin with `documents` and the number of the document; those of the mesh with its own keys. */
  readonly kube: readonly KubeDocument[];
  at(path: SourcePath, message: string): Problem;
}

const DOCUMENTS = "documents";

export function readMeshDocuments(
  text: string,
): { readonly ok: true; readonly documents: MeshDocuments } | {
  readonly ok: false;
  readonly problems: readonly Problem[];
} {
  const read = readYamlDocuments(text);
  if (!read.ok) return read;
  const { documents } = read;
  const [mesh, second] = documents.filter((document) => !isObject(document));
  if (second !== undefined) {
    const message = `a second document without kind; write what it holds in the first, or say its apiVersion and kind`;
    return { ok: false, problems: [second.at([], message)] };
  }
  const kube = documents.flatMap((document, index) =>
    document === mesh ? [] : [{ value: document.value, path: [DOCUMENTS, index] }]
  );
  return {
    ok: true,
    documents: {
      mesh: mesh?.value ?? {},
      kube,
      at(path, message) {
        const [first, index, ...rest] = path;
        if (first === DOCUMENTS && typeof index === "number") return documents[index]!.at(rest, message);
        return mesh?.at(path, message) ?? { line: 1, column: 1, message };
      },
    },
  };
}

function isObject({ value }: YamlDocument): boolean {
  return typeof value === "object" && value !== null && ("kind" in value || "apiVersion" in value);
}
