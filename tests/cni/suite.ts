/**
 * ambit cni on nodes with a real API server, istiod, ztunnel, CNI plugins and pods: all scenarios, one lab. Run by `deno task test:cni`.
 *
 * AMBIT_CNI_BUILDS=deno,bun limits the builds, AMBIT_CNI_ONLY=text the scenarios, AMBIT_CNI_KEEP=1 keeps the logs.
 */
import "./scenarios/install.ts";
import "./scenarios/kube_client.ts";
import "./scenarios/pods.ts";
import "./scenarios/traffic.ts";
import "./scenarios/redirection.ts";
import "./scenarios/agents.ts";
import "./scenarios/ztunnels.ts";
import "./scenarios/faults.ts";
import "./scenarios/moments.ts";
