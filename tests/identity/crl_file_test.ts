import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { CrlFile, type LoadedLists, splitRevocationLists } from "../../src/identity/crl_file.ts";
import { TestAuthority } from "../platform/authority.ts";
import { VirtualTime } from "../ztunnel/virtual_time.ts";

let root: TestAuthority;
let leaf: string;
let clean: string;
let revoking: string;

before(async () => {
  root = await TestAuthority.create();
  leaf = (await root.leaf()).chain[0];
  clean = await root.crl([]);
  revoking = await root.crl([leaf]);
});

const bytes = (text: string) => new TextEncoder().encode(text);
const der = (pem: string) => new Uint8Array(Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ""), "base64"));

/** A file in memory, and the watch on its directory. */
class Bench {
  readonly time = new VirtualTime();
  readonly loaded: LoadedLists[] = [];
  readonly errors: string[] = [];
  content: Uint8Array | undefined;
  readError: string | undefined;
  /** Undefined: the directory cannot be watched. */
  touch: (() => void) | undefined;
  watchable = true;
  watched = "";
  readonly file = new CrlFile({
    path: "/crl/ca-crl.pem",
    schedule: this.time.schedule,
    changed: (loaded) => this.loaded.push(loaded),
    failed: (error) => this.errors.push(error),
    read: () => {
      if (this.readError !== undefined) throw new Error(this.readError);
      return this.content;
    },
    watch: (directory, changed) => {
      if (!this.watchable) throw new Error("no such directory");
      this.watched = directory;
      this.touch = changed;
      return { close: () => this.touch = undefined };
    },
  });

  /** The file becomes this, and the change settles. */
  become(content: Uint8Array | undefined): void {
    this.content = content;
    this.touch?.();
    this.time.advance(2_000);
  }
}

describe("crl_file: content", () => {
  test("crl_file: several PEM lists among other text, or one in DER", () => {
    assert.deepEqual(splitRevocationLists(bytes(`comment\n${clean}\n# more\n${revoking}`)).length, 2);
    const [fromDer] = splitRevocationLists(der(revoking));
    assert.deepEqual(der(fromDer), der(revoking));
    assert.match(fromDer, /^-----BEGIN X509 CRL-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END X509 CRL-----\n$/);
  });

  test("crl_file: an empty file holds no lists", () => {
    for (const text of ["", "\n", "  \r\n\t"]) assert.deepEqual(splitRevocationLists(bytes(text)), []);
  });

  test("crl_file: what is neither is refused, and so is half of one", () => {
    const list = der(clean);
    const bad: readonly [Uint8Array, RegExp][] = [
      [bytes("revoked: none"), /neither PEM .* nor DER; to revoke nothing, leave the file empty/],
      [bytes(leaf), /neither PEM/],
      [bytes(clean.slice(0, -20)), /a PEM block is not complete/],
      [bytes(`${clean}\n${clean.slice(0, 60)}`), /a PEM block is not complete/],
      [list.subarray(0, list.length - 1), /the DER list is cut/],
      [new Uint8Array([...list, 0]), /something follows it/],
      [new Uint8Array([0x30]), /the DER list is cut/],
      [new Uint8Array([0x30, 0x80, 0, 0]), /the DER list is cut/],
      [new Uint8Array([0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]), /the DER list is cut/],
      [new Uint8Array(16 * 1024 * 1024 + 1), /more than 16777216 bytes/],
    ];
    for (const [content, message] of bad) assert.throws(() => splitRevocationLists(content), message);
  });
});

describe("crl_file: at the start", () => {
  test("crl_file: the lists are in force before anything else happens", () => {
    const bench = new Bench();
    bench.content = bytes(revoking);
    bench.file.start();
    assert.equal(bench.loaded.length, 1);
    assert.equal(bench.loaded[0].revoked, 1);
    assert.equal(bench.loaded[0].lists.length, 1);
    assert.equal(bench.watched, "/crl");
    assert.deepEqual(bench.errors, []);
  });

  test("crl_file: a missing file is tolerated and waited for", () => {
    const bench = new Bench();
    bench.file.start();
    assert.equal(bench.loaded.length, 0);
    assert.match(bench.errors[0], /there is no \/crl\/ca-crl\.pem \(yet\): nothing is revoked until it comes/);
    bench.become(bytes(revoking));
    assert.equal(bench.loaded[0].revoked, 1);
  });

  test("crl_file: a directory that comes later is found", () => {
    const bench = new Bench();
    bench.watchable = false;
    bench.file.start();
    bench.watchable = true;
    bench.content = bytes(revoking);
    bench.time.advance(60_000);
    assert.equal(bench.loaded.length, 1);
    bench.become(bytes(clean));
    assert.equal(bench.loaded.length, 2, "from then on it is watched");
  });

  test("crl_file: a file that cannot be used ends the start: nobody could say what is revoked", () => {
    for (const content of [bytes("garbage"), bytes(revoking.replace(/\n.{20}/, "\n"))]) {
      const bench = new Bench();
      bench.content = content;
      assert.throws(() => bench.file.start(), /revocation lists/);
      assert.equal(bench.loaded.length, 0);
    }
    const unreadable = new Bench();
    unreadable.readError = "cannot read it: EACCES";
    assert.throws(() => unreadable.file.start(), /EACCES/);
  });
});

describe("crl_file: changes", () => {
  test("crl_file: a swap in several steps is read once, two seconds after the last", () => {
    const bench = new Bench();
    bench.content = bytes(clean);
    bench.file.start();
    bench.content = bytes("half a fi");
    bench.touch?.();
    bench.time.advance(1_900);
    bench.content = bytes(revoking);
    bench.touch?.();
    bench.time.advance(1_900);
    assert.equal(bench.loaded.length, 1);
    bench.time.advance(100);
    assert.equal(bench.loaded.length, 2);
    assert.equal(bench.loaded[1].revoked, 1);
    assert.deepEqual(bench.errors, []);
  });

  test("crl_file: the same content again is no change", () => {
    const bench = new Bench();
    bench.content = bytes(revoking);
    bench.file.start();
    bench.become(bytes(revoking));
    bench.time.advance(300_000);
    assert.equal(bench.loaded.length, 1);
  });

  test("crl_file: a change that the watch missed is found within a minute", () => {
    const bench = new Bench();
    bench.content = bytes(clean);
    bench.file.start();
    bench.content = bytes(revoking);
    bench.time.advance(60_000);
    assert.equal(bench.loaded.length, 2);
  });

  test("crl_file: what was in force stays when the file breaks or goes, with one line for each reason", () => {
    const bench = new Bench();
    bench.content = bytes(revoking);
    bench.file.start();
    bench.become(bytes("garbage"));
    bench.become(bytes("garbage"));
    bench.become(undefined);
    bench.time.advance(300_000);
    bench.readError = "cannot read it: EACCES";
    bench.become(undefined);
    assert.equal(bench.loaded.length, 1);
    assert.equal(bench.errors.length, 3);
    assert.match(bench.errors[0], /neither PEM.*; the last good lists stay in force$/);
    assert.match(bench.errors[1], /ca-crl\.pem is gone: its last lists stay in force/);
    assert.match(bench.errors[2], /EACCES; the last good lists stay in force/);
    bench.readError = undefined;
    bench.become(bytes(revoking));
    assert.equal(bench.loaded.length, 1, "it is as it was");
    bench.become(bytes("garbage"));
    assert.equal(bench.errors.length, 4, "and if it breaks again, that is said again");
  });

  test("crl_file: only an empty file takes revocations back", () => {
    const bench = new Bench();
    bench.content = bytes(revoking);
    bench.file.start();
    bench.become(bytes(""));
    assert.deepEqual(bench.loaded[1].lists, []);
    assert.equal(bench.loaded[1].revoked, 0);
  });

  test("crl_file: closing ends every timer and the watch", () => {
    const bench = new Bench();
    bench.content = bytes(clean);
    bench.file.start();
    bench.touch?.();
    bench.file.close();
    assert.equal(bench.time.pending, 0);
    assert.equal(bench.touch, undefined);
  });
});

test("crl_file: a swap of symbolic links, as Kubernetes makes it, is seen on a real file system", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ambit-crl-"));
  const publish = (version: string, content: string) => {
    mkdirSync(join(directory, version));
    writeFileSync(join(directory, version, "ca-crl.pem"), content);
    symlinkSync(version, join(directory, "..data_tmp"));
    renameSync(join(directory, "..data_tmp"), join(directory, "..data"));
  };
  publish("..1", clean);
  symlinkSync("..data/ca-crl.pem", join(directory, "ca-crl.pem"));
  const loaded: LoadedLists[] = [];
  let arrived = () => {};
  const file = new CrlFile({
    path: join(directory, "ca-crl.pem"),
    // The poll, which would find it too, never comes.
    schedule(task, delayMs) {
      if (delayMs > 2_000) return () => {};
      const timer = setTimeout(task, 20);
      return () => clearTimeout(timer);
    },
    changed(lists) {
      loaded.push(lists);
      arrived();
    },
    failed: (error) => assert.fail(error),
  });
  try {
    file.start();
    assert.equal(loaded[0].revoked, 0);
    const change = new Promise<void>((resolve) => arrived = resolve);
    publish("..2", revoking);
    await change;
    assert.equal(loaded[1].revoked, 1);
    unlinkSync(join(directory, "..1", "ca-crl.pem"));
  } finally {
    file.close();
    rmSync(directory, { recursive: true });
  }
});
