/**
 * LOCAL_XDS and LOCAL_XDS_PATH: mesh resources from YAML in ztunnel's local vocabulary (reference ztunnel, sections 3.5 and 9.2), read
 * once at the start. Taken whole or not at all: somebody who wrote a policy meant it, and a field that is not known may be one.
 */
import { readFileSync } from "node:fs";
import type { LocalXdsSource } from "../../cli/config.ts";
import { type MeshResources, parseMesh } from "../../mesh/mod.ts";

const NOTHING: MeshResources = { workloads: [], services: [], policies: [] };
/** Of all that is wrong, so much goes into the message. */
const SHOWN_PROBLEMS = 10;

/** Undefined: there is no local source. Throws an Error that says where each problem stands. */
export async function loadLocalXds(source: LocalXdsSource): Promise<MeshResources | undefined> {
  switch (source.kind) {
    case "none":
      return undefined;
    case "yaml":
      return await readLocalXds("LOCAL_XDS", source.text);
    case "file": {
      let text: string;
      try {
        text = readFileSync(source.path, "utf8");
      } catch (cause) {
        throw new Error(`LOCAL_XDS_PATH: cannot read ${source.path}: ${(cause as Error).message}`);
      }
      return await readLocalXds(source.path, text);
    }
  }
}

/** `name` is what messages call the text. */
async function readLocalXds(name: string, text: string): Promise<MeshResources> {
  // Only who has such a file pays for a YAML parser.
  const { readYaml } = await import("../local/yaml_source.ts");
  const yaml = readYaml(text);
  if (!yaml.ok) throw problems(name, yaml.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`));
  // An empty file says nothing, which is no mistake.
  if (yaml.source.value === null || yaml.source.value === undefined) return NOTHING;
  const parsed = parseMesh(yaml.source.value);
  if (parsed.ok) return parsed.resources;
  throw problems(
    name,
    parsed.errors.map(({ path, message }) => {
      const { line, column } = yaml.source.at(path, message);
      return `${line}:${column}: ${describePath(path)}: ${message}`;
    }),
  );
}

function describePath(path: readonly (string | number)[]): string {
  const text = path.map((step) => typeof step === "number" ? `[${step}]` : `.${step}`).join("");
  return text.startsWith(".") ? text.slice(1) : text === "" ? "the file" : text;
}

function problems(name: string, lines: readonly string[]): Error {
  const more = lines.length - SHOWN_PROBLEMS;
  const shown = lines.slice(0, SHOWN_PROBLEMS).map((line) => `${name}:${line}`);
  return new Error([`${name} is not usable`, ...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("\n  "));
}
