/** Meshes on their way from the process that builds them to the one that is measured: a file of counted byte strings. */
import { readFileSync, writeFileSync } from "node:fs";
import type { BenchMesh } from "./mesh.ts";

export function saveMesh(path: string, mesh: BenchMesh): void {
  const lists = [mesh.addresses, mesh.policies];
  const size = lists.flat().reduce((sum, { length }) => sum + 4 + length, 8);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const list of lists) {
    view.setUint32(at, list.length);
    at += 4;
    for (const bytes of list) {
      view.setUint32(at, bytes.length);
      out.set(bytes, at + 4);
      at += 4 + bytes.length;
    }
  }
  writeFileSync(path, out);
}

export interface LoadedMesh {
  readonly addresses: Uint8Array[];
  readonly policies: Uint8Array[];
}

export function loadMesh(path: string): LoadedMesh {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = 0;
  const list = () => {
    const count = view.getUint32(at);
    at += 4;
    return Array.from({ length: count }, () => {
      const length = view.getUint32(at);
      at += 4 + length;
      return bytes.subarray(at - length, at);
    });
  };
  return { addresses: list(), policies: list() };
}
