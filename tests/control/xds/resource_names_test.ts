import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { resourceNames } from "../../../src/control/xds/resource_names.ts";
import { ResourceSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";

const encoded = toBinary(
  ResourceSchema,
  create(ResourceSchema, {
    name: "Kubernetes//Pod/shop/reviews",
    aliases: ["/10.0.0.1", "net/10.0.0.2"],
    version: "v7",
    resource: { typeUrl: "type.googleapis.com/istio.workload.Address", value: Uint8Array.of(0x1a, 1, 0x78) },
    ttl: { seconds: 5n },
  }),
);

test("resource_names: gives the name and the aliases, and nothing of what is inside the resource", () => {
  assert.deepEqual(resourceNames(encoded), ["Kubernetes//Pod/shop/reviews", "/10.0.0.1", "net/10.0.0.2"]);
  assert.deepEqual(resourceNames(new Uint8Array(0)), []);
});

test("resource_names: throws at no cut and no change of a byte", () => {
  for (let end = 0; end < encoded.length; end++) resourceNames(encoded.subarray(0, end));
  for (let at = 0; at < encoded.length; at++) {
    for (const byte of [0, 0x7f, 0x80, 0xff, encoded[at] ^ 1]) {
      const changed = encoded.slice();
      changed[at] = byte;
      resourceNames(changed);
    }
  }
});
