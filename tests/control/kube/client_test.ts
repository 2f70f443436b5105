import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import {
  createKubeClient,
  type KubeClient,
  type KubeClientOptions,
  KubeError,
} from "../../../src/control/kube/client.ts";
import { inClusterClient, serverAddress } from "../../../src/control/kube/in_cluster.ts";
import { tokenFile } from "../../../src/control/kube/token.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { VirtualTime } from "../../ztunnel/virtual_time.ts";
import { ApiServer, type Handler, sendJson, sendStatus, testToken } from "./api_server.ts";
import { until } from "./until.ts";

let api: ApiServer;
let client: KubeClient;
let time: VirtualTime;
const opened: KubeClient[] = [];

before(async () => {
  api = await ApiServer.start();
});

after(() => api.stop());

beforeEach(() => {
  api.requests.length = api.faults.length = 0;
  time = new VirtualTime();
  client = open();
});

afterEach(() => opened.splice(0).forEach((client) => client.close()));

function open(options: Partial<KubeClientOptions> = {}): KubeClient {
  const client = createKubeClient({
    server: api.url,
    ca: api.ca,
    token: () => "secret-token",
    schedule: time.schedule,
    ...options,
  });
  opened.push(client);
  return client;
}

const ok: Handler = (_, response) => sendJson(response, 200, { kind: "Pod" });
const answers = (code: number, reason: string, message: string, headers = {}): Handler => (_, response) =>
  sendStatus(response, code, reason, message, headers);

/** The error of a call that must fail. */
async function failure(call: Promise<unknown>): Promise<KubeError> {
  const error = await call.then(() => undefined, (error: unknown) => error);
  assert.ok(error instanceof KubeError, `a KubeError, not ${error}`);
  assert.ok(!error.message.includes("secret"), "no token in a text");
  return error;
}

describe("kube client: calls", () => {
  test("sends token, user agent and bodies, and gives the answer", async () => {
    const named = open({ userAgent: "ambit-test/1" });
    api.faults.push(ok, ok, ok);
    assert.deepEqual(await named.get("/api/v1/namespaces/a/pods/b"), { kind: "Pod" });
    await named.mergePatch("/api/v1/namespaces/a/pods/b/status", { metadata: { annotations: { "ä": null } } });
    await named.create("/api/v1/namespaces/a/events", { kind: "Event" });
    const [get, patch, post] = api.requests;
    assert.equal(get.headers.authorization, "Bearer secret-token");
    assert.equal(get.headers["user-agent"], "ambit-test/1");
    assert.equal(get.headers.accept, "application/json");
    assert.deepEqual([patch.method, patch.path], ["PATCH", "/api/v1/namespaces/a/pods/b/status"]);
    assert.equal(patch.headers["content-type"], "application/merge-patch+json");
    assert.equal(patch.body, '{"metadata":{"annotations":{"ä":null}}}');
    assert.deepEqual([post.method, post.headers["content-type"], post.body], [
      "POST",
      "application/json",
      '{"kind":"Event"}',
    ]);
  });

  test("one connection serves calls that follow each other, and close lets go of it", async () => {
    const before = api.connections;
    for (let i = 0; i < 3; i++) {
      api.faults.push(ok);
      await client.get("/api/v1/x");
    }
    assert.equal(api.connections - before, 1);
    client.close();
    await until(() => api.sockets.size === 0, "the connection is closed");
  });

  test("what ends after close keeps nothing either", async () => {
    api.faults.push((_, response) => setTimeout(() => sendJson(response, 200, {}), 20));
    const call = client.get("/api/v1/x");
    await until(() => api.requests.length === 1, "it was asked");
    client.close();
    await call;
    await until(() => api.sockets.size === 0, "the connection is closed");
    assert.equal(time.pending, 0);
  });

  test("a path of the server's own is kept before the API's", async () => {
    const behind = open({ server: `${api.url}/k8s/clusters/c-1/` });
    api.faults.push(ok);
    await behind.get("/api/v1/x");
    assert.equal(api.requests[0].path, "/k8s/clusters/c-1/api/v1/x");
  });

  test("no more calls than connections run at once; the others wait and are answered", async () => {
    let most = 0;
    const held: (() => void)[] = [];
    for (let i = 0; i < 40; i++) {
      api.faults.push((_, response) => {
        most = Math.max(most, held.length + 1);
        held.push(() => sendJson(response, 200, {}));
      });
    }
    let done = 0;
    const calls = Array.from({ length: 40 }, (_, i) => client.get(`/api/v1/${i}`).then(() => done++));
    while (done < 40) {
      await until(() => held.length > 0 || done === 40, "a request came");
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
      held.splice(0).forEach((answer) => answer());
    }
    await Promise.all(calls);
    assert.ok(most <= 16, `${most} at once`);
    client.close();
  });

  test("refuses an address that is none", () => {
    for (const server of ["", "10.0.0.1:443", "ftp://x", "https://x/?a=b"]) {
      assert.throws(
        () => createKubeClient({ server, ca: undefined, token: () => "t" }),
        /no https:\/\/ address/,
        server,
      );
    }
  });
});

describe("kube client: tokens", () => {
  test("one that is not accepted is read again once, and the call repeated with the new one", async () => {
    const asked: boolean[] = [];
    const renewing = open({ token: (fresh = false) => (asked.push(fresh), fresh ? "new" : "old") });
    api.faults.push((request, response) => {
      assert.equal(request.headers.authorization, "Bearer old");
      sendStatus(response, 401, "Unauthorized", "Unauthorized");
    }, ok);
    await renewing.get("/api/v1/x");
    assert.equal(api.requests[1].headers.authorization, "Bearer new");
    assert.ok(asked.includes(true));
  });

  test("one that is still the same is not sent again; the error says whose it is and that it has expired", async () => {
    const token = testToken({ sub: "system:serviceaccount:istio-system:istio-cni", exp: 1_600_000_000 });
    const expired = open({ token: () => token });
    api.faults.push(answers(401, "Unauthorized", "Unauthorized"));
    const error = await failure(expired.get("/api/v1/x"));
    assert.equal(api.requests.length, 1);
    assert.deepEqual([error.status, error.reason], [401, "Unauthorized"]);
    assert.match(error.message, /^GET \/api\/v1\/x at https:/);
    assert.match(
      error.message,
      /"system:serviceaccount:istio-system:istio-cni" and expired \d+ h ago, at 2020-09-13T12:26:40Z/,
    );
    assert.ok(!error.message.includes(token));
  });

  test("a second 401 ends it", async () => {
    let count = 0;
    const renewing = open({ token: () => `t${count++}` });
    api.faults.push(answers(401, "", ""), answers(401, "", ""));
    assert.equal((await failure(renewing.get("/x"))).status, 401);
    assert.equal(api.requests.length, 2);
  });

  test("a file is read again every 10 s, and at once when its token was not accepted", () => {
    const directory = mkdtempSync(join(tmpdir(), "ambit-kube-"));
    const path = join(directory, "token");
    try {
      writeFileSync(path, "one\n");
      const source = tokenFile(path, () => time.nowMs);
      assert.equal(source(), "one");
      writeFileSync(path, "two");
      time.advance(9_999);
      assert.equal(source(), "one");
      assert.equal(source(true), "two");
      writeFileSync(path, "three");
      assert.equal(source(), "two");
      time.advance(10_000);
      assert.equal(source(), "three");
      writeFileSync(path, " ");
      assert.throws(() => source(true), /token .* is empty/);
      rmSync(path);
      assert.throws(
        () => source(true),
        (error: KubeError) => error.status === 0 && /cannot read the service account's token/.test(error.message),
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("one that a header cannot carry is not sent, and not shown", async () => {
    for (const token of ["secret\r\nX-Evil: 1", "secret ö", ""]) {
      const broken = open({ token: () => token });
      assert.match((await failure(broken.get("/x"))).message, /no token/);
      broken.close();
    }
    assert.equal(api.requests.length, 0);
  });

  test("none goes over http", async () => {
    const { createServer } = await import("node:http");
    let seen: string | undefined = "";
    const plain = createServer((request, response) => {
      seen = request.headers.authorization;
      response.end("{}");
    });
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
    const { port } = plain.address() as { port: number };
    await open({ server: `http://127.0.0.1:${port}` }).get("/x");
    assert.equal(seen, undefined);
    plain.closeAllConnections();
    await new Promise<void>((resolve) => plain.close(() => resolve()));
  });
});

describe("kube client: refusals", () => {
  test("403 names the verb and the resource that a role must grant", async () => {
    const cases: [string, string, RegExp][] = [
      ["GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn", /"list" on "pods"/],
      ["GET", "/api/v1/namespaces", /"list" on "namespaces"/],
      ["GET", "/api/v1/namespaces/a", /"get" on "namespaces"/],
      ["GET", "/api/v1/namespaces/a/pods/b", /"get" on "pods"/],
      ["GET", "/apis/apps/v1/namespaces/istio-system/daemonsets/istio-cni-node", /"get" on "daemonsets"/],
      ["PATCH", "/api/v1/namespaces/a/pods/b/status", /"patch" on "pods\/status"/],
      ["POST", "/api/v1/namespaces/a/events", /"create" on "events"/],
    ];
    for (const [method, path, expected] of cases) {
      api.faults.push(answers(403, "Forbidden", `User "u" cannot`));
      const error = await failure(
        method === "GET"
          ? client.get(path)
          : method === "PATCH"
          ? client.mergePatch(path, {})
          : client.create(path, {}),
      );
      assert.deepEqual([error.status, error.reason], [403, "Forbidden"]);
      assert.match(error.message, expected);
      assert.match(error.message, /User "u" cannot/);
    }
  });

  test("other refusals have the server's reason and words, on one line and cut", async () => {
    api.faults.push(answers(404, "NotFound", 'pods "b" not found'), (_, response) => {
      response.writeHead(502);
      response.end(`<html>\n<h1>Bad\nGateway</h1>${"x".repeat(100_000)}`);
    }, answers(409, "Conflict", "other uid"));
    const missing = await failure(client.get("/api/v1/namespaces/a/pods/b"));
    assert.deepEqual([missing.status, missing.reason], [404, "NotFound"]);
    assert.match(missing.message, /pods "b" not found \(404\)/);
    const page = await failure(client.get("/x"));
    assert.equal(page.status, 502);
    assert.match(page.message, /<html> <h1>Bad Gateway<\/h1>x/);
    assert.ok(page.message.length < 700, `${page.message.length} characters`);
    assert.equal((await failure(client.mergePatch("/x", {}))).reason, "Conflict");
  });

  test("429 is waited out as long as it asks", async () => {
    api.faults.push(answers(429, "TooManyRequests", "slow down", { "retry-after": "2" }), ok);
    const call = client.create("/x", {});
    await until(() => time.nextInMs() === 2_000, "it waits");
    assert.equal(api.requests.length, 1);
    time.advance(2_000);
    await call;
    assert.equal(api.requests.length, 2);
  });

  test("429 beyond the call's time is an error that says how long to wait", async () => {
    api.faults.push(answers(429, "TooManyRequests", "slow down", { "retry-after": "3600" }));
    const error = await failure(client.get("/x"));
    assert.deepEqual([error.status, error.retryAfterMs], [429, 60_000]);
  });

  test("503 with a time is waited out by reads only", async () => {
    api.faults.push(answers(503, "ServiceUnavailable", "starting", { "retry-after": "1" }));
    assert.equal((await failure(client.create("/x", {}))).status, 503);
    api.faults.push(answers(503, "ServiceUnavailable", "starting", { "retry-after": "1" }), ok);
    const call = client.get("/x");
    await until(() => time.nextInMs() === 1_000, "it waits");
    time.advance(1_000);
    await call;
  });

  test("patience has an end", async () => {
    for (let i = 0; i < 10; i++) api.faults.push(answers(429, "TooManyRequests", "no", { "retry-after": "0" }));
    const call = failure(client.get("/x"));
    const ticking = setInterval(() => time.nextInMs() === 0 && time.advance(0), 1);
    assert.equal((await call).status, 429);
    clearInterval(ticking);
    assert.equal(api.requests.length, 4);
  });
});

describe("kube client: faults", () => {
  test("garbage is named as such", async () => {
    api.faults.push((_, response) => response.end("<html>login"), (_, response) => response.end("[1]"));
    assert.match((await failure(client.get("/x"))).message, /the answer is not JSON/);
    assert.match((await failure(client.get("/x"))).message, /no object/);
  });

  test("an answer larger than its limit is not taken", async () => {
    api.faults.push((_, response) => sendJson(response, 200, { text: "x".repeat(2_000) }));
    assert.match((await failure(client.read("/x", { maxBytes: 1_000 }))).message, /larger than the 1000 bytes/);
    client.close();
    await until(() => api.sockets.size === 0, "the connection is gone");
  });

  test("no answer: the whole call has one limit, also when bytes trickle", async () => {
    api.faults.push(() => {});
    const silent = failure(client.get("/x"));
    await until(() => api.requests.length === 1, "it was asked");
    time.advance(10_000);
    assert.equal((await silent).reason, "Timeout");
    assert.match((await silent).message, /no answer within 1?\d(\.\d+)? s/);
    api.faults.push((_, response) => {
      response.writeHead(200);
      response.write("{");
      const trickle = setInterval(() => response.write(" "), 5);
      response.on("close", () => clearInterval(trickle));
    });
    const slow = failure(client.read("/x", { timeoutMs: 1_000 }));
    await until(() => api.requests.length === 2, "it was asked");
    time.advance(1_000);
    assert.equal((await slow).reason, "Timeout");
    assert.equal(time.pending, 0);
  });

  test("a connection that is cut is tried once more, but nothing is created twice", async () => {
    const cut: Handler = (_, __, socket) => socket.destroy();
    api.faults.push(cut, ok);
    await client.get("/x");
    assert.equal(api.requests.length, 2);
    // A runtime may try once more on its own when the connection was one it had kept.
    for (let i = 0; i < 6; i++) api.faults.push(cut);
    assert.match((await failure(client.mergePatch("/x", {}))).message, /the connection was cut/);
    const count = api.requests.length;
    assert.ok(count >= 4 && count <= 6, `${count} requests`);
    const error = await failure(client.create("/x", {}));
    assert.deepEqual([error.status, error.reason], [0, "Network"]);
    assert.equal(api.requests.length, count + 1);
  });

  test("an answer cut in its middle is no answer", async () => {
    const half: Handler = (_, response, socket) => {
      response.writeHead(200, { "content-length": "100" });
      response.write('{"a":1}');
      setTimeout(() => socket.destroy(), 10);
    };
    api.faults.push(half, half);
    assert.match((await failure(client.get("/x"))).message, /cut/);
  });

  test("nobody there, or somebody else: the text says which", async () => {
    const refused = open({ server: "https://127.0.0.1:1" });
    assert.match(
      (await failure(refused.get("/x"))).message,
      /at https:\/\/127\.0\.0\.1:1: connection refused: is the API server running/,
    );
    const stranger = open({ ca: (await TestAuthority.create("other")).pem });
    const error = await failure(stranger.get("/x"));
    assert.equal(error.reason, "Certificate");
    assert.match(error.message, /not signed by the CA we were given .*KUBE_CA_FILE/);
    const misnamed = open({ server: api.url.replace("127.0.0.1", "localhost") });
    assert.match((await failure(misnamed.get("/x"))).message, /certificate is for another name/);
    api.faults.push(ok);
    const trusting = open({ ca: undefined, skipTlsVerify: true });
    await trusting.get("/x");
  });

  test("an abort ends a call with its reason, before and while it runs, and while it is patient", async () => {
    const reason = new Error("enough");
    const rejects = (call: Promise<unknown>) => assert.rejects(call, (error) => error === reason);
    await rejects(client.get("/x", AbortSignal.abort(reason)));
    assert.equal(api.requests.length, 0);
    api.faults.push(() => {}, answers(429, "", "", { "retry-after": "2" }));
    for (const count of [1, 2]) {
      const controller = new AbortController();
      const call = client.get("/x", controller.signal);
      await until(() => api.requests.length === count && (count === 1 || time.nextInMs() === 2_000), "it runs");
      controller.abort(reason);
      await rejects(call);
    }
    client.close();
    assert.equal(time.pending, 0);
  });
});

describe("kube client: streams", () => {
  const never = () => new AbortController().signal;

  test("gives the body in pieces and ends with it", async () => {
    api.faults.push((_, response) => {
      response.writeHead(200);
      response.write("one\n");
      setTimeout(() => response.end("two\n"), 10);
    });
    let text = "";
    await client.stream(
      "/x?watch=1",
      { signal: never(), silenceMs: () => 1_000 },
      (chunk) => text += new TextDecoder().decode(chunk),
    );
    assert.equal(text, "one\ntwo\n");
    assert.equal(time.pending, 0);
  });

  test("a refusal is read and told; a token is read again", async () => {
    api.faults.push(answers(403, "Forbidden", "no"));
    const error = await failure(
      client.stream("/api/v1/pods?watch=1", { signal: never(), silenceMs: () => 1_000 }, () => {}),
    );
    assert.match(error.message, /"watch" on "pods"/);
    let count = 0;
    const renewing = open({ token: (fresh) => fresh ? "new" : `old${count++}` });
    api.faults.push(answers(401, "Unauthorized", ""), (_, response) => response.end());
    await renewing.stream("/x?watch=1", { signal: never(), silenceMs: () => 1_000 }, () => {});
    assert.equal(api.requests[2].headers.authorization, "Bearer new");
  });

  test("one that goes silent is ended, and each piece gives it time again", async () => {
    let write = (_: string) => {};
    api.faults.push((_, response) => {
      response.writeHead(200);
      response.flushHeaders();
      write = (text) => response.write(text);
    });
    const pieces: number[] = [];
    const call = failure(
      client.stream("/x", { signal: never(), silenceMs: () => 1_000 }, (chunk) => pieces.push(chunk.length)),
    );
    for (let i = 1; i <= 3; i++) {
      await until(() => time.nextInMs() === 1_000, "it watches for silence");
      time.advance(900);
      write("x");
      await until(() => pieces.length === i, "the piece came");
    }
    await until(() => time.nextInMs() === 1_000, "it watches for silence");
    time.advance(1_000);
    const error = await call;
    assert.equal(error.reason, "Timeout");
    assert.match(error.message, /went silent/);
    await until(() => api.sockets.size <= 1, "its connection is gone");
  });

  test("a sink that throws ends it with that error, and it is called no more", async () => {
    const mine = new Error("mine");
    let calls = 0;
    api.faults.push((_, response) => {
      response.writeHead(200);
      const writing = setInterval(() => response.write("x\n"), 1);
      response.on("close", () => clearInterval(writing));
    });
    await assert.rejects(
      client.stream("/x", { signal: never(), silenceMs: () => 1_000 }, () => {
        calls++;
        throw mine;
      }),
      (error) => error === mine,
    );
    await new Promise<void>((resolve) => setTimeout(resolve, 20));
    assert.equal(calls, 1);
  });
});

describe("kube client: in a cluster", () => {
  const settings = {
    kubernetesHost: "10.0.0.1" as string | undefined,
    kubernetesPort: "443" as string | undefined,
    kubernetesProtocol: "https",
    serviceAccountDir: "/nowhere",
    kubeCaFile: undefined,
    skipTlsVerify: false,
  };

  test("makes the address of host and port, with brackets around IPv6", () => {
    assert.equal(serverAddress(settings), "https://10.0.0.1:443");
    assert.equal(serverAddress({ ...settings, kubernetesHost: "fd00::1" }), "https://[fd00::1]:443");
    assert.equal(
      serverAddress({ ...settings, kubernetesHost: "[fd00::1]", kubernetesPort: "6443" }),
      "https://[fd00::1]:6443",
    );
    assert.throws(
      () => serverAddress({ ...settings, kubernetesHost: undefined }),
      /KUBERNETES_SERVICE_HOST is not set/,
    );
    assert.throws(() => serverAddress({ ...settings, kubernetesPort: "" }), /KUBERNETES_SERVICE_PORT is not set/);
  });

  test("takes token and CA of the service account; what is missing is named", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ambit-kube-"));
    const { hostname, port } = new URL(api.url);
    const own = { ...settings, kubernetesHost: hostname, kubernetesPort: port, serviceAccountDir: directory };
    try {
      assert.throws(() => inClusterClient(own, "ambit"), /token/);
      writeFileSync(join(directory, "token"), "own-token");
      assert.throws(() => inClusterClient(own, "ambit"), /cannot read the API server's CA .*KUBE_CA_FILE/);
      writeFileSync(join(directory, "ca.crt"), "nonsense");
      assert.throws(() => inClusterClient(own, "ambit"), /no certificate in PEM/);
      writeFileSync(join(directory, "ca.crt"), api.ca);
      const inCluster = inClusterClient(own, "ambit");
      api.faults.push(ok);
      await inCluster.get("/api/v1/x");
      assert.equal(api.requests[0].headers.authorization, "Bearer own-token");
      inCluster.close();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
