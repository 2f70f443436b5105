/** Generates src/gen from proto/ with buf and protoc-gen-es, when proto/ or a generator has changed. `deno task gen`. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { filesBelow, ROOT, run, tool } from "./support/tools.ts";

/** Beside the generated code, so that deleting that deletes this. */
const STAMP = join(ROOT, "src/gen/.stamp");

/** Everything the output depends on. */
function fingerprint(): string {
  const hash = createHash("sha256");
  const generators = ["@bufbuild/buf", "@bufbuild/protoc-gen-es"].map((name) => `node_modules/${name}/package.json`);
  for (const path of [...filesBelow("proto", ".proto"), "buf.yaml", "buf.gen.yaml", ...generators]) {
    hash.update(path).update("\0").update(readFileSync(join(ROOT, path))).update("\0");
  }
  return hash.digest("hex");
}

const wanted = fingerprint();
if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === wanted) process.exit(0);
console.log("gen: proto/ -> src/gen");
// buf finds its plugin on the PATH.
const path = `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
const { code } = await run([tool("buf"), "generate"], { env: { PATH: path } });
if (code !== 0) {
  console.error("gen: buf generate failed: see above");
  process.exit(1);
}
writeFileSync(STAMP, wanted);
