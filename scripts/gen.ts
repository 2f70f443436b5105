/** Generates src/gen with buf and protoc-gen-es, when a source or a generator has changed. `deno task gen`. */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { protoInputs, slim, stage } from "./support/proto_sources.ts";
import { ROOT, run, tool } from "./support/tools.ts";

/** Beside the generated code, so that deleting that deletes this. */
const STAMP = join(ROOT, "src/gen/.stamp");

function fingerprint(): string {
  const hash = createHash("sha256");
  for (const path of [...protoInputs(), "buf.gen.yaml"]) {
    hash.update(path).update("\0").update(readFileSync(join(ROOT, path))).update("\0");
  }
  return hash.digest("hex");
}

async function generate(work: string): Promise<boolean> {
  const image = join(work, "image.binpb");
  stage(join(work, "proto"));
  const compile = [tool("buf"), "build", join(work, "proto"), "--exclude-source-info", "-o", image];
  if ((await run(compile, { cwd: work })).code !== 0) return false;
  writeFileSync(image, slim(readFileSync(image)));
  // buf finds its plugin on the PATH.
  const path = `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
  return (await run([tool("buf"), "generate", image], { env: { PATH: path } })).code === 0;
}

const wanted = fingerprint();
if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === wanted) process.exit(0);
console.log("gen: proto/ -> src/gen");
const work = mkdtempSync(join(tmpdir(), "ambit-gen-"));
try {
  if (!await generate(work)) {
    console.error("gen: buf failed: see above");
    process.exit(1);
  }
} finally {
  rmSync(work, { recursive: true });
}
writeFileSync(STAMP, wanted);
