import assert from "node:assert/strict";
import { test } from "node:test";
import { renderHosts } from "../../src/local/hosts_file.ts";

test("hosts_file: keeps the machine's lines and adds one for each address", () => {
  const text = renderHosts("127.0.0.1\tlocalhost", [
    { address: "10.96.0.1", names: ["reviews.bookstore", "reviews"] },
    { address: "fd00::1", names: ["reviews"] },
  ]);
  assert.equal(text, "127.0.0.1\tlocalhost\n10.96.0.1\treviews.bookstore reviews\nfd00::1\treviews\n");
});

test("hosts_file: leaves out what is no host name, and lines without one", () => {
  const hosts = [
    { address: "10.96.0.1", names: ["*.example.com", "a\n1.2.3.4 evil", "b c", "good.example.com"] },
    { address: "10.96.0.2", names: ["*.example.com"] },
  ];
  assert.equal(renderHosts("", hosts), "\n10.96.0.1\tgood.example.com\n");
});
