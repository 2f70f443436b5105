/** What others do to the node's rules and sets, by the words it is known by. */
import type { HostBackend } from "../../../src/cni/host/host.ts";
import type { Namespace } from "../support_netns.ts";

/** `ip` is in the set. */
export function flushes(backend: HostBackend, ip: string): Record<string, (node: Namespace) => void> {
  return backend === "nftables"
    ? {
      "nft flush ruleset": (node) => void node.run("nft", "flush", "ruleset"),
      "a rule that was deleted": (node) =>
        void node.run("nft", "flush", "chain", "inet", "istio-ambient-nat", "postrouting"),
      "an element that was deleted": (node) =>
        void node.run("nft", "delete", "element", "inet", "istio-ambient-nat", "istio-inpod-probes-v4", "{", ip, "}"),
      "a set that was emptied, and a stranger in it": (node) => {
        node.run("nft", "flush", "set", "inet", "istio-ambient-nat", "istio-inpod-probes-v4");
        node.run("nft", "add", "element", "inet", "istio-ambient-nat", "istio-inpod-probes-v4", "{", "10.1.1.1", "}");
      },
      "a rule of another user": (node) => {
        const chain = ["inet", "istio-ambient-nat", "postrouting"];
        node.run("nft", "flush", "chain", ...chain);
        node.run(
          "nft",
          "add",
          "rule",
          ...chain,
          "ip",
          "daddr",
          "@istio-inpod-probes-v4",
          "snat",
          "ip",
          "to",
          "10.1.1.1",
        );
      },
    }
    : {
      "iptables -F": (node) => {
        for (const tool of [backend, backend.replace("ip", "ip6")]) node.run(tool, "-t", "nat", "-F");
      },
      "iptables -F and -X, as a firewall that is reloaded": (node) => {
        for (const tool of [backend, backend.replace("ip", "ip6")]) {
          node.run(tool, "-t", "nat", "-F");
          node.run(tool, "-t", "nat", "-X");
        }
      },
      "the jump alone": (node) => void node.run(backend, "-t", "nat", "-D", "POSTROUTING", "-j", "ISTIO_POSTRT"),
      "the jump twice": (node) => void node.run(backend, "-t", "nat", "-A", "POSTROUTING", "-j", "ISTIO_POSTRT"),
      "ipset flush, and a stranger": (node) => {
        node.run("ipset", "flush");
        node.run("ipset", "add", "istio-inpod-probes-v4", "10.1.1.1", "comment", "stranger");
      },
      "another pod's name on the address": (node) =>
        void node.run("ipset", "add", "istio-inpod-probes-v4", ip, "comment", "wrong", "-exist"),
      "rules flushed, sets destroyed": (node) => {
        for (const tool of [backend, backend.replace("ip", "ip6")]) node.run(tool, "-t", "nat", "-F");
        node.run("ipset", "destroy");
      },
      "sets of another kind": (node) => {
        for (const tool of [backend, backend.replace("ip", "ip6")]) node.run(tool, "-t", "nat", "-F");
        node.run("ipset", "destroy");
        node.run("ipset", "create", "istio-inpod-probes-v4", "hash:ip", "family", "inet");
        node.run(
          backend,
          "-t",
          "nat",
          "-A",
          "ISTIO_POSTRT",
          "-m",
          "set",
          "--match-set",
          "istio-inpod-probes-v4",
          "dst",
        );
      },
    };
}
