/** The network around a node, as a cluster has it: ways to other nodes' pods, and the API server behind a service's address. */
import { tool } from "../../../src/local/run_tool.ts";
import type { CniNode } from "./node.ts";

/** What a cluster's first service is, and what the API server's certificate is good for. */
export const API_SERVICE_IP = "10.96.0.1";
const API_PORT = 6443;

/** The pods' subnets of the node of this number, by family. */
export function podSubnets(number: number): readonly [string, string] {
  return [`10.244.${number * 16}.0/20`, `fd00:244:${number.toString(16)}::/64`];
}

/** Makes the ways between a new node, the other ones and the control plane. */
export async function connectNode(node: CniNode): Promise<void> {
  const { lab } = node;
  const routes = ({ number, addresses }: CniNode) =>
    podSubnets(number).map((subnet, i) => `ip route add ${subnet} via ${addresses[i]} dev eth0 onlink`).join(" && ");
  await tool(lab.sandbox.command(["sh", "-c", routes(node)], { node: "control" }));
  for (const other of lab.nodes.values()) {
    await other.shell(routes(node));
    await node.shell(routes(other));
  }
  await restoreServiceRules(node);
  // The service's address has no route of its own.
  await node.shell(`ip route add ${API_SERVICE_IP} via ${lab.plane.ip} dev eth0 onlink`);
}

/** What kube-proxy would do, and do again. */
export async function restoreServiceRules(node: CniNode): Promise<void> {
  const rules = `
    table ip kube-proxy {
      chain services { ip daddr ${API_SERVICE_IP} tcp dport 443 dnat to ${node.lab.plane.ip}:${API_PORT}; }
      chain prerouting { type nat hook prerouting priority -100; jump services; }
      chain output { type nat hook output priority -100; jump services; }
    }`;
  await node.exec(["nft", "-f", "-"], undefined, rules);
}

/** For the agent and the plugins of this node the API server is gone: what is open breaks, what is new is refused. */
export async function breakApi(node: CniNode): Promise<void> {
  const rules = `
    table ip outage {
      chain cut { ip daddr ${node.lab.plane.ip} tcp dport ${API_PORT} reject with tcp reset; }
      chain forward { type filter hook forward priority 0; jump cut; }
      chain output { type filter hook output priority 0; jump cut; }
    }`;
  await node.exec(["nft", "-f", "-"], undefined, rules);
  await node.shell(`ss -K dst ${API_SERVICE_IP} >/dev/null`, node.agent.pod.netns);
}

/** Idempotent. */
export async function mendApi(node: CniNode): Promise<void> {
  await node.exec(["nft", "add table ip outage; delete table ip outage"]);
}
