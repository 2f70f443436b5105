/**
 * ambit as istio-cni, ztunnel and waypoint on a node of Kubernetes, under Istio's own charts: all scenarios, one cluster, in this order. Run by
 * `deno task test:cluster`.
 */
import "./scenarios/stock.ts";
// Each ends with the removal of the node agent.
import "./scenarios/ambit.ts";
import "./scenarios/nftables.ts";
