import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { describeErrno, SystemError } from "../../src/platform/errno.ts";
import { ignoreBrokenPipes, openDescriptors, raiseDescriptorLimit } from "../../src/platform/process.ts";
import { runtime } from "../../src/platform/runtime.ts";
import { closeDescriptor, send, shutdownWrite, socketPair } from "../../src/platform/socket.ts";
import { libc } from "../../src/platform/libc.ts";

/** Runs a module text in a fresh process of this runtime, as a child of `sh -c` with `prelude` before it. */
function runModule(text: string, prelude = ""): { readonly status: number | null; readonly out: string } {
  const run = runtime.name === "deno" ? `"${process.execPath}" eval` : `"${process.execPath}" -e`;
  const root = new URL("../../", import.meta.url).pathname;
  const child = spawnSync("sh", ["-c", `${prelude} exec ${run} "$1"`, "sh", text], { cwd: root, encoding: "utf8" });
  return { status: child.status, out: child.stdout + child.stderr };
}

describe("process", () => {
  test("process: the limit of open files is raised to what is allowed", () => {
    const { status, out } = runModule(
      `const { raiseDescriptorLimit } = await import("./src/platform/process.ts");
       console.log(JSON.stringify(raiseDescriptorLimit()));`,
      "ulimit -Sn 500 && ulimit -Hn 3000 &&",
    );
    assert.equal(status, 0, out);
    assert.deepEqual(JSON.parse(out), { limit: 3000 });
  });

  test("process: code and constants that served the start are given back, and everything still runs", () => {
    const { status, out } = runModule(
      `const { readFileSync, readlinkSync } = await import("node:fs");
       const { releaseStartupCode } = await import("./src/platform/startup_pages.ts");
       const program = readlinkSync("/proc/self/exe");
       // Resident pages of the program's code, and of its beginning, which holds constants.
       const resident = () => {
         const found = { code: 0, constants: 0 };
         let part;
         for (const line of readFileSync("/proc/self/smaps", "utf8").split("\\n")) {
           const [, rights, offset, file] = /^[0-9a-f]+-[0-9a-f]+ (\\S+) (\\S+) \\S+ \\d+\\s*(.*)$/.exec(line) ?? [];
           if (rights !== undefined) {
             part = file !== program ? undefined : rights === "r-xp" ? "code" : /^0+$/.test(offset) ? "constants" : undefined;
           }
           const size = /^Rss:\\s+(\\d+)/.exec(line);
           if (size !== null && part !== undefined) found[part] += Number(size[1]);
         }
         return found;
       };
       const before = resident();
       releaseStartupCode();
       const after = resident();
       const { createHash } = await import("node:crypto");
       const digest = createHash("sha256").update("").digest("hex").slice(0, 8);
       console.log(JSON.stringify([after.code < before.code, after.constants < before.constants / 2, digest]));`,
    );
    assert.equal(status, 0, out);
    assert.deepEqual(JSON.parse(out), [true, true, "e3b0c442"]);
  });

  test("process: raising twice changes nothing", () => {
    const first = raiseDescriptorLimit();
    assert.equal(first.error, undefined);
    assert.ok(first.limit > 0);
    assert.deepEqual(raiseDescriptorLimit(), first);
  });

  test("process: counts open descriptors", () => {
    const before = openDescriptors();
    const pair = socketPair();
    assert.ok(pair !== undefined);
    assert.equal(openDescriptors(), before + 2);
    closeDescriptor(pair[0]);
    closeDescriptor(pair[1]);
    assert.equal(openDescriptors(), before);
  });

  test("process: a write to a closed pipe does not kill it", () => {
    ignoreBrokenPipes();
    const pair = socketPair();
    assert.ok(pair !== undefined);
    closeDescriptor(pair[1]);
    const byte = new Uint8Array(1);
    assert.equal(libc.write(pair[0], byte, 1), -1);
    assert.ok(send(pair[0], byte, 0, 1) < 0);
    assert.equal(shutdownWrite(pair[0]), 0);
    closeDescriptor(pair[0]);
  });
});

describe("errno", () => {
  test("errno: known numbers have a name and words, others their number", () => {
    assert.equal(describeErrno(111), "connection refused (ECONNREFUSED)");
    assert.equal(describeErrno(999), "error 999");
    const error = new SystemError("cannot open", 24);
    assert.equal(error.message, "cannot open: too many open files (EMFILE)");
    assert.equal(error.code, 24);
  });
});

describe("runtime", () => {
  test("runtime: names itself and its version", () => {
    assert.equal(runtime.name, "Deno" in globalThis ? "deno" : "bun");
    assert.match(runtime.version, /^\d+\.\d+\.\d+/);
  });

  test("runtime: a missing library and a missing symbol throw", () => {
    assert.throws(() => runtime.open("libnosuch.so.9", { nothing: { args: [], returns: "void" } }));
    assert.throws(() => runtime.open("libc.so.6", { no_such_function_: { args: [], returns: "void" } }));
  });

  test("runtime: an address leads back to the bytes it was taken of", () => {
    const bytes = new Uint8Array([1, 2, 3, 4, 5]);
    const pointer = runtime.pointerFrom(runtime.addressOf(bytes));
    assert.ok(pointer !== null);
    const view = runtime.view(pointer, 1, 3);
    assert.deepEqual([...view], [2, 3, 4]);
    view[0] = 99;
    assert.equal(bytes[1], 99);
    assert.equal(runtime.pointerFrom(0n), null);
  });

  test("runtime: 64-bit numbers travel whole", () => {
    const { llabs } = runtime.open("libc.so.6", { llabs: { args: ["u64"], returns: "u64" } });
    assert.equal(BigInt(llabs(0x7fff_ffff_ffff_fffen)), 0x7fff_ffff_ffff_fffen);
  });

  test("runtime: C calls back", () => {
    const { qsort } = runtime.open("libc.so.6", {
      qsort: { args: ["buffer", "u64", "u64", "pointer"], returns: "void" },
    });
    const compare = runtime.callback(
      { args: ["pointer", "pointer"], returns: "i32" },
      (a: never, b: never) => runtime.view(a, 0, 1)[0] - runtime.view(b, 0, 1)[0],
    );
    const bytes = new Uint8Array([5, 3, 9, 1]);
    qsort(bytes, 4n, 1n, compare);
    assert.deepEqual([...bytes], [1, 3, 5, 9]);
  });
});

describe("openssl", () => {
  test("openssl: a library that cannot be loaded is named with the package that brings it", () => {
    for (const library of ["libssl.so.3", "libcrypto.so.3"]) {
      // The loader finds a file of that name first, and it is no library.
      const { status, out } = runModule(
        `await import("./src/platform/openssl.ts").then(() => console.log("loaded"), (e) => console.log(e.message));`,
        `d=$(mktemp -d) && echo no library > $d/${library} && export LD_LIBRARY_PATH=$d &&`,
      );
      assert.equal(status, 0, out);
      assert.match(out, new RegExp(`^cannot load ${library.replaceAll(".", "\\.")}`));
      assert.match(out, /apt-get install libssl3/);
      assert.match(out, /dnf install openssl-libs/);
    }
  });

  test("openssl: is version 3", async () => {
    const { opensslVersion } = await import("../../src/platform/openssl.ts");
    assert.match(opensslVersion(), /^OpenSSL 3\./);
  });
});
