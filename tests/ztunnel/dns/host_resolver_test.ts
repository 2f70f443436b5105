import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { addressRecord, RCODE, type ResourceRecord, TYPE } from "../../../src/protocol/dns/mod.ts";
import { createHostResolver, type HostResolver, searchNames } from "../../../src/ztunnel/dns/host_resolver.ts";
import type { TrafficPeer } from "../../../src/telemetry/traffic_metrics.ts";
import { FakeServer, files, Loop, PLAIN_SOCKETS } from "./support.ts";

const SOURCE = {} as TrafficPeer;
const V6 = Uint8Array.of(0x20, 1, 0xd, 0xb8, ...new Array(11).fill(0), 1);

const servers: FakeServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

interface Lab {
  readonly loop: Loop;
  readonly server: FakeServer;
  readonly resolver: HostResolver;
  readonly counted: string[];
}

interface LabOptions {
  readonly says?: ConstructorParameters<typeof FakeServer>[1];
  readonly resolvConf?: string;
  readonly hosts?: string;
  readonly ipv6Enabled?: boolean;
}

/** `names`: addresses by name. */
function lab(names: Readonly<Record<string, readonly Uint8Array[]>>, options: LabOptions = {}): Lab {
  const loop = new Loop();
  const server = new FakeServer(
    loop,
    options.says ?? (({ question: { name, type } }) => {
      const addresses = names[name];
      if (addresses === undefined) return { rcode: RCODE.NXDomain };
      const answers: ResourceRecord[] = addresses.filter(({ length }) => (length === 4) === (type === TYPE.A)).map((
        bytes,
      ) => addressRecord(name, bytes, 60));
      return { answers };
    }),
  );
  servers.push(server);
  const counted: string[] = [];
  const resolver = createHostResolver({
    io: loop.io,
    files: files({
      "/etc/resolv.conf": options.resolvConf ?? "nameserver 127.0.0.1",
      "/etc/hosts": options.hosts ?? "",
    }),
    metrics: { resolved: (_source, hostname) => void counted.push(hostname) },
    ipv6Enabled: options.ipv6Enabled ?? true,
    random: () => 0,
    randomId: () => 7,
    sockets: PLAIN_SOCKETS,
    port: server.address.port,
  });
  return { loop, server, resolver, counted };
}

function resolve(
  { loop, resolver }: Lab,
  hostname: string,
  preferIpv6 = false,
): { ip: string | undefined; reason: string } {
  let result: { ip: string | undefined; reason: string } | undefined;
  resolver.resolve(hostname, preferIpv6, SOURCE, {
    hostResolved: (ip, reason) => {
      assert.equal(result, undefined, "told once");
      result = { ip, reason };
    },
  });
  loop.until(() => result !== undefined, `an answer for ${hostname}`);
  return result!;
}

test("host resolver: an address of the wanted family, else of the other", () => {
  const subject = lab({ "both.example": [Uint8Array.of(192, 0, 2, 1), V6], "six.example": [V6] });
  assert.deepEqual(resolve(subject, "both.example"), { ip: "192.0.2.1", reason: "" });
  assert.deepEqual(resolve(subject, "both.example", true), { ip: "2001:db8::1", reason: "" });
  assert.deepEqual(resolve(subject, "six.example"), { ip: "2001:db8::1", reason: "" });
});

test("host resolver: without IPv6 only A is asked for", () => {
  const subject = lab({ "both.example": [Uint8Array.of(192, 0, 2, 1), V6] }, { ipv6Enabled: false });
  assert.equal(resolve(subject, "both.example", true).ip, "192.0.2.1");
  assert.deepEqual(subject.server.asked.map(({ question }) => question.type), [TYPE.A]);
});

test("host resolver: remembers, counts each use, and asks once for many", () => {
  const subject = lab({ "one.example": [Uint8Array.of(192, 0, 2, 1)] });
  const results: (string | undefined)[] = [];
  const waiter = () => ({ hostResolved: (ip: string | undefined) => void results.push(ip) });
  for (let i = 0; i < 3; i++) subject.resolver.resolve("one.example", false, SOURCE, waiter());
  subject.loop.until(() => results.length === 3, "all three");
  let atOnce: string | undefined;
  subject.resolver.resolve("one.example", false, SOURCE, { hostResolved: (ip) => void (atOnce = ip) });
  // AAAA had no answer that could be remembered; it is asked again, so this one comes later.
  subject.loop.until(() => atOnce !== undefined, "the fourth");
  assert.deepEqual(subject.counted, new Array(4).fill("one.example"));
  assert.equal(subject.server.asked.filter(({ question }) => question.type === TYPE.A).length, 1);
});

test("host resolver: what is remembered is told at once", () => {
  const subject = lab({ "both.example": [Uint8Array.of(192, 0, 2, 1), V6] });
  resolve(subject, "both.example");
  let ip: string | undefined;
  subject.resolver.resolve("both.example", false, SOURCE, { hostResolved: (found) => void (ip = found) });
  assert.equal(ip, "192.0.2.1");
});

test("host resolver: search domains by the number of dots", () => {
  const conf = { servers: [], search: ["a.test", "b.test"], ndots: 2 };
  assert.deepEqual(searchNames("short", conf), ["short.a.test", "short.b.test", "short"]);
  assert.deepEqual(searchNames("x.y.long", conf), ["x.y.long", "x.y.long.a.test", "x.y.long.b.test"]);
  assert.deepEqual(searchNames("short.", conf), ["short"]);
  assert.deepEqual(searchNames("no..name", conf), []);
  const subject = lab({ "db.b.test": [Uint8Array.of(192, 0, 2, 9)] }, {
    resolvConf: "nameserver 127.0.0.1\nsearch a.test b.test\noptions ndots:5",
  });
  assert.equal(resolve(subject, "db").ip, "192.0.2.9");
  assert.deepEqual([...new Set(subject.server.asked.map(({ question }) => question.name))], ["db.a.test", "db.b.test"]);
});

test("host resolver: the hosts file comes first", () => {
  const subject = lab({}, { hosts: "192.0.2.77 db.example", ipv6Enabled: false });
  assert.equal(resolve(subject, "db.example").ip, "192.0.2.77");
  assert.equal(subject.server.asked.length, 0);
});

test("host resolver: why there is no address", () => {
  assert.match(resolve(lab({}), "none.example").reason, /^cannot resolve none\.example: it has no address/);
  assert.match(resolve(lab({}), "no..name").reason, /^cannot resolve no\.\.name: it is no name/);
  assert.match(resolve(lab({}, { resolvConf: "" }), "any.example").reason, /no name server is known/);
  const failing = lab({}, { says: () => ({ rcode: RCODE.ServFail }) });
  assert.match(resolve(failing, "any.example").reason, /answered with code 2/);
});

test("host resolver: one family that fails does not spoil the other", () => {
  const subject = lab({}, {
    says: ({ question: { name, type } }) =>
      type === TYPE.A ? { answers: [addressRecord(name, Uint8Array.of(192, 0, 2, 1), 5)] } : { rcode: RCODE.ServFail },
  });
  assert.equal(resolve(subject, "half.example").ip, "192.0.2.1");
});

test("host resolver: who has an address of the wanted family does not wait for the other", () => {
  const subject = lab({}, {
    says: ({ question: { name, type } }) =>
      type === TYPE.A ? { answers: [addressRecord(name, Uint8Array.of(192, 0, 2, 1), 5)] } : undefined,
  });
  assert.equal(resolve(subject, "half.example").ip, "192.0.2.1");
});

test("host resolver: who has left is not told", () => {
  const subject = lab({ "one.example": [Uint8Array.of(192, 0, 2, 1)] });
  let told = false;
  const waiter = { hostResolved: () => void (told = true) };
  subject.resolver.resolve("one.example", false, SOURCE, waiter);
  subject.resolver.cancel("one.example", waiter);
  subject.loop.until(() => subject.server.asked.length === 2, "both questions");
  subject.loop.settle();
  assert.ok(!told);
});
