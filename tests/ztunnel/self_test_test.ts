import { test } from "node:test";
import { proveAuthentication } from "../../src/ztunnel/self_test.ts";

test("self_test: this machine's TLS and ztunnel's own judgement of names pass", () => {
  proveAuthentication();
});
