import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeAddEvent, encodeAddEvent } from "../../src/cni/plugin_event.ts";

const EVENT = { netns: "/var/run/netns/cni-1", podName: "web-1", podNamespace: "shop" };

test("plugin_event: is written as Go writes it", () => {
  const addresses = [
    { interface: 2, address: "10.0.0.7/24", gateway: "10.0.0.1" },
    { interface: undefined, address: "fd00::7/64", gateway: undefined },
    { interface: 0, address: "10.0.0.8/0", gateway: undefined },
  ];
  assert.equal(
    encodeAddEvent(EVENT, addresses),
    '{"Netns":"/var/run/netns/cni-1","PodName":"web-1","PodNamespace":"shop","IPs":[' +
      '{"Interface":2,"Address":{"IP":"10.0.0.7","Mask":"////AA=="},"Gateway":"10.0.0.1"},' +
      '{"Interface":null,"Address":{"IP":"fd00::7","Mask":"//////////8AAAAAAAAAAA=="},"Gateway":""},' +
      '{"Interface":0,"Address":{"IP":"10.0.0.8","Mask":"AAAAAA=="},"Gateway":""}]}',
  );
});

test("plugin_event: without a result before this plugin there are no addresses", () => {
  for (const addresses of [undefined, []]) {
    const text = encodeAddEvent(EVENT, addresses);
    assert.match(text, /"IPs":null\}$/);
    assert.deepEqual(decodeAddEvent(text), { ...EVENT, ips: [] });
  }
});

test("plugin_event: is read in any case of the names, with IPv4 in IPv6 unmapped", () => {
  const text = '{"netns":"/n","PODNAME":"p","podNamespace":"s","ips":[{"address":{"ip":"::ffff:10.0.0.7"}},' +
    '{"Address":{"IP":"FD00:0::7","Mask":null},"Gateway":"x","Other":1}]}';
  assert.deepEqual(decodeAddEvent(text), {
    netns: "/n",
    podName: "p",
    podNamespace: "s",
    ips: ["10.0.0.7", "fd00::7"],
  });
});

test("plugin_event: errors name the field", () => {
  const table: [string, RegExp][] = [
    ["", /^CNI event: /],
    ["[]", /^CNI event: must be an object, is \[\]$/],
    ["{}", /^CNI event: Netns: must be a string that is not empty, is missing$/],
    ['{"Netns":"/n","PodName":1,"PodNamespace":"s"}', /^CNI event: PodName: must be a string .*, is 1$/],
    ['{"Netns":"/n","PodName":"p","PodNamespace":""}', /^CNI event: PodNamespace: /],
    ['{"Netns":"/n","PodName":"p","PodNamespace":"s","IPs":{}}', /^CNI event: IPs: must be a list, is \{\}$/],
    [
      '{"Netns":"/n","PodName":"p","PodNamespace":"s","IPs":[{"Address":{"IP":"10.0.0.256"}}]}',
      /^CNI event: IPs\[0\]\.Address\.IP: "10\.0\.0\.256" is no IP address$/,
    ],
    ['{"Netns":"/n","PodName":"p","PodNamespace":"s","IPs":[{}]}', /^CNI event: IPs\[0\]\.Address: must be an object/],
  ];
  for (const [text, message] of table) assert.throws(() => decodeAddEvent(text), { message });
});
