/**
 * What must be taken away and what made to get from one mesh file to the next. Pure.
 */

/** The parts of a node and a pod that exist on the machine. Labels are the mesh's affair, and a node agent's. */
export interface PlannedNode {
  readonly name: string;
  readonly addresses: readonly string[];
}

export interface PlannedPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly identity: string;
  readonly node: string;
  readonly addresses: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly captured: boolean;
  readonly isWaypoint: boolean;
  readonly command: readonly string[] | undefined;
  readonly env: Readonly<Record<string, string>>;
}

export interface MachineState {
  readonly nodes: readonly PlannedNode[];
  readonly pods: readonly PlannedPod[];
}

export interface ChangePlan {
  /** To remove before anything is made: they come again in another form, or their address goes to somebody else. */
  readonly removeFirst: MachineState;
  readonly add: MachineState;
  /** To remove once the mesh no longer sends traffic there. */
  readonly removeLast: MachineState;
}

/** `captureInPlace`: whether a pod is captured may change while it runs; otherwise it is made anew. */
export function planChange(from: MachineState, to: MachineState, captureInPlace = false): ChangePlan {
  const nodes = new Map(to.nodes.map((node) => [node.name, node]));
  const pods = new Map(to.pods.map((pod) => [pod.uid, pod]));
  const goneNodes = from.nodes.filter((node) => !sameNode(node, nodes.get(node.name)));
  const goneNodeNames = new Set(goneNodes.map((node) => node.name));
  const gonePods = from.pods.filter((pod) =>
    goneNodeNames.has(pod.node) || !samePod(pod, pods.get(pod.uid), captureInPlace)
  );
  const gonePodUids = new Set(gonePods.map((pod) => pod.uid));

  const kept = { nodes: new Set(from.nodes.map((node) => node.name)), pods: new Set(from.pods.map((pod) => pod.uid)) };
  for (const name of goneNodeNames) kept.nodes.delete(name);
  for (const uid of gonePodUids) kept.pods.delete(uid);
  const add = {
    nodes: to.nodes.filter((node) => !kept.nodes.has(node.name)),
    pods: to.pods.filter((pod) => !kept.pods.has(pod.uid)),
  };

  const claimed = new Set([...add.nodes, ...add.pods].flatMap((one) => one.addresses));
  const reborn = new Set([...add.nodes.map((node) => node.name), ...add.pods.map((pod) => pod.uid)]);
  const loses = (key: string, addresses: readonly string[]) =>
    reborn.has(key) || addresses.some((address) => claimed.has(address));
  const firstNodes = goneNodes.filter((node) => loses(node.name, node.addresses));
  const firstNodeNames = new Set(firstNodes.map((node) => node.name));
  // A node goes only after its pods.
  const firstPods = gonePods.filter((pod) => firstNodeNames.has(pod.node) || loses(pod.uid, pod.addresses));
  return {
    removeFirst: { nodes: firstNodes, pods: firstPods },
    add,
    removeLast: {
      nodes: goneNodes.filter((node) => !firstNodes.includes(node)),
      pods: gonePods.filter((pod) => !firstPods.includes(pod)),
    },
  };
}

function sameNode(a: PlannedNode, b: PlannedNode | undefined): boolean {
  return b !== undefined && a.addresses.join() === b.addresses.join();
}

function samePod(a: PlannedPod, b: PlannedPod | undefined, captureInPlace: boolean): boolean {
  return b !== undefined && shape(a, captureInPlace) === shape(b, captureInPlace);
}

function shape(pod: PlannedPod, captureInPlace: boolean): string {
  const { serviceAccount, identity, node, addresses, captured, isWaypoint, command, env } = pod;
  const isCaptured = captureInPlace || captured;
  return JSON.stringify([serviceAccount, identity, node, addresses, isCaptured, isWaypoint, command, env]);
}
