import assert from "node:assert/strict";
import { test } from "node:test";
import { createAdminApp } from "../../src/admin/admin.ts";
import { BadRequest, type DebugControl } from "../../src/admin/debug.ts";

function app(control: DebugControl = {}) {
  const admin = createAdminApp({
    configDump: () => ({}),
    log: { directives: "info", change: () => {} },
    shutdown: () => {},
    ...control,
  });
  return async (path: string) => {
    const response = await admin.fetch(new Request(`http://localhost${path}`));
    return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
  };
}

test("debug: a profile takes seconds and frequency, within ztunnel's bounds", async () => {
  const asked: [number, number][] = [];
  const get = app({
    profile: (seconds, frequency) => {
      asked.push([seconds, frequency]);
      return Promise.resolve(new TextEncoder().encode("gz"));
    },
  });
  assert.deepEqual(await get("/debug/pprof/profile"), { status: 200, type: "application/octet-stream", text: "gz" });
  await get("/debug/pprof/profile?seconds=1&frequency=1000");
  await get("/debug/pprof/profile?seconds=300&frequency=1");
  assert.deepEqual(asked, [[10, 100], [1, 1000], [300, 1]]);
  for (const query of ["seconds=0", "seconds=301", "seconds=x", "seconds=1.5", "frequency=0", "frequency=1001"]) {
    const { status, text } = await get(`/debug/pprof/profile?${query}`);
    assert.equal(status, 400, query);
    assert.match(text, /^(seconds|frequency) must be a whole number from 1 to (300|1000)\n$/);
  }
  assert.equal(asked.length, 3);
});

test("debug: one profile at a time, and the next when it has ended, well or not", async () => {
  let end: (error: Error) => void = () => {};
  const get = app({ profile: () => new Promise((_, reject) => end = reject) });
  const first = get("/debug/pprof/profile");
  assert.equal((await get("/debug/pprof/profile")).status, 409);
  end(new Error("no profiler"));
  const { status, text } = await first;
  assert.deepEqual([status, text], [500, "no profiler\n"]);
  const next = get("/debug/pprof/profile");
  end(new Error("again"));
  assert.equal((await next).text, "again\n");
});

test("debug: what is not there says so with 500", async () => {
  const get = app();
  for (const path of ["heap", "heap/profiling?activate=true", "profile"]) {
    const { status, text } = await get(`/debug/pprof/${path}`);
    assert.equal(status, 500, path);
    assert.match(text, /not enabled/);
  }
});

test("debug: explain passes the question on and gives JSON, or what is wrong with the question", async () => {
  const get = app({
    explain: ({ from, to }) => {
      if (to === "") throw new BadRequest("to is missing");
      return { from, to };
    },
  });
  const { status, type, text } = await get("/debug/explain?from=ns%2Fsa&to=1.2.3.4:80");
  assert.deepEqual([status, type, JSON.parse(text)], [200, "application/json", { from: "ns/sa", to: "1.2.3.4:80" }]);
  const refused = await get("/debug/explain?from=a");
  assert.deepEqual([refused.status, refused.text], [400, "to is missing\n"]);
});
