/** The nodes and pods of a mesh file: who is where, with which addresses. */
import { canonicalIp, isIpv6 } from "../../mesh/ip.ts";
import { type AddressBook, type Family, unusableAddress } from "./addresses.ts";
import type { FieldReader, Fields } from "./field_reader.ts";
import type { MeshNode, ReadPod } from "./mesh_file.ts";
import type { SourcePath } from "./yaml_source.ts";

const NODE_KEYS = ["name", "address"] as const;
/** Everything else in a pod is a field of its Workload. */
const POD_KEYS = ["name", "namespace", "serviceAccount", "node", "address", "labels", "captured", "command", "env"];
/** `none` keeps a pod out of the mesh. */
const MODE_LABEL = "istio.io/dataplane-mode";
/** Fields of a Workload that follow from the pod's own. */
const DERIVED_KEYS: Readonly<Record<string, string>> = {
  uid: "namespace and name",
  workloadIps: "address",
};

export function readNodes(reader: FieldReader, top: Fields, book: AddressBook, taken: ReadonlySet<string>): MeshNode[] {
  const names = new Set<string>();
  const nodes = reader.objects(top.nodes, ["nodes"]).map(({ fields, path }) => {
    reader.onlyKnown(fields, NODE_KEYS, path);
    const name = reader.name(fields, "name", path);
    claim(reader, names, name, [...path, "name"], `node ${name}`);
    const given = readAddresses(reader, fields, path);
    return { name, addresses: given ?? book.allocate("node", name, ["ipv4", "ipv6"], taken) };
  });
  if (nodes.length === 0) reader.fail(["nodes"], `the file has no nodes; add "nodes: [{name: node-a}]"`);
  return nodes;
}

export function readPods(
  reader: FieldReader,
  top: Fields,
  nodes: readonly MeshNode[],
  book: AddressBook,
  taken: ReadonlySet<string>,
): ReadPod[] {
  const names = new Set<string>();
  const addressesSeen = new Set(nodes.flatMap((node) => node.addresses));
  return reader.objects(top.pods, ["pods"]).map(({ fields, path }) => {
    const name = reader.name(fields, "name", path);
    const namespace = reader.name(fields, "namespace", path, "default");
    const serviceAccount = reader.name(fields, "serviceAccount", path, "default");
    const nodeName = reader.name(fields, "node", path);
    claim(reader, names, name && `${namespace}/${name}`, [...path, "name"], `pod ${namespace}/${name}`);
    const node = nodes.find((node) => node.name === nodeName);
    if (node === undefined && nodeName !== "") {
      const known = nodes.map((node) => node.name).join(", ");
      reader.fail([...path, "node"], `there is no node "${nodeName}"; the nodes are ${known}`);
    }
    const families = familiesOf(node?.addresses ?? []);
    const given = readAddresses(reader, fields, path);
    const addresses = given ?? book.allocate("pod", `${namespace}/${name}`, families, taken);
    for (const address of given ?? []) {
      claim(reader, addressesSeen, address, [...path, "address"], `address ${address}`);
      if (node !== undefined && !families.includes(familyOf(address))) {
        reader.fail([...path, "address"], `${address} cannot be reached: node ${nodeName} has no ${familyOf(address)}`);
      }
    }
    for (const [key, source] of Object.entries(DERIVED_KEYS)) {
      if (fields[key] !== undefined) reader.fail([...path, key], `a pod's ${key} follows from its ${source}`);
    }
    const command = reader.textOrTexts(fields, "command", path);
    const labels = reader.texts(fields, "labels", path);
    const trustDomain = typeof fields.trustDomain === "string" ? fields.trustDomain : "cluster.local";
    return {
      path,
      workload: Object.fromEntries(Object.entries(fields).filter(([key]) => !POD_KEYS.includes(key))),
      pod: {
        uid: `Kubernetes//Pod/${namespace}/${name}`,
        name,
        namespace,
        serviceAccount,
        identity: `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`,
        node: nodeName,
        addresses,
        labels,
        // The label means here what it means in a cluster.
        captured: reader.flag(fields, "captured", path, labels[MODE_LABEL] !== "none"),
        isWaypoint: false,
        // One text is a line for the shell, as people write it; a list is taken word for word.
        command: typeof fields.command === "string" ? ["sh", "-c", fields.command] : command,
        env: reader.texts(fields, "env", path),
      },
    };
  });
}

function claim(reader: FieldReader, seen: Set<string>, key: string, path: SourcePath, what: string): void {
  if (key !== "" && seen.has(key)) reader.fail(path, `${what} is there twice`);
  seen.add(key);
}

function readAddresses(reader: FieldReader, fields: Fields, path: SourcePath): string[] | undefined {
  const texts = reader.textOrTexts(fields, "address", path);
  if (texts === undefined) return undefined;
  const addresses: string[] = [];
  for (const text of texts) {
    const address = canonicalIp(text);
    const complaint = address === undefined ? `${JSON.stringify(text)} is no IP address` : unusableAddress(address);
    if (complaint !== undefined) reader.fail([...path, "address"], complaint);
    else if (address !== undefined) addresses.push(address);
  }
  if (familiesOf(addresses).length !== addresses.length) {
    reader.fail([...path, "address"], "more than one address of a family; give at most one IPv4 and one IPv6");
  }
  return addresses;
}

/** Every address that the file gives to a node or pod, so that the book gives it to nobody else. */
export function collectAddresses(top: Fields): Set<string> {
  const taken = new Set<string>();
  const entries = [top.nodes, top.pods].flatMap((list) => Array.isArray(list) ? list as readonly unknown[] : []);
  for (const entry of entries) {
    const address = typeof entry === "object" && entry !== null && "address" in entry ? entry.address : undefined;
    for (const text of Array.isArray(address) ? address as readonly unknown[] : [address]) {
      if (typeof text === "string") taken.add(canonicalIp(text) ?? text);
    }
  }
  return taken;
}

function familyOf(address: string): Family {
  return isIpv6(address) ? "ipv6" : "ipv4";
}

export function familiesOf(addresses: readonly string[]): Family[] {
  return [...new Set(addresses.map(familyOf))];
}
