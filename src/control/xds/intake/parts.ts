/** What workloads and services have in common on the wire. One reader and one cache for both: equal parts are one object. */
import { canonicalIp, formatCidr, formatIp, maskIp } from "../../../mesh/ip.ts";
import { type GatewayAddress, networkAddress, type PortMap } from "../../../mesh/types.ts";
import { Shared } from "./share.ts";
import { once, portNumber, quote, Unreadable, VARINT, WireReader } from "./wire.ts";

/** Kinds of shared parts. */
export const SERVICES = 1;
export const POLICIES = 2;
export const LOCALITY = 3;
export const TUNNEL = 4;
export const PORTS = 5;
const WAYPOINT = 6;
const NETWORK_GATEWAY = 7;

export const NO_PORTS: PortMap = {};

export class PartReader {
  readonly reader = new WireReader();
  readonly shared = new Shared();
  /** For the repeated fields of whatever is being read. */
  readonly services = new Run();
  readonly policies = new Run();
  readonly servicePorts = new Run();

  /** A message that many resources share, from its length on; reads past it. */
  part<T>(kind: number, end: number, make: (parts: PartReader, stop: number) => T): T {
    const { reader } = this;
    const stop = reader.delimited(end);
    const value = this.shared.part(kind, reader, reader.pos, stop, make, this);
    reader.pos = stop;
    return value;
  }

  ip(end: number): string {
    const { reader } = this;
    const stop = reader.delimited(end);
    const start = reader.pos;
    reader.pos = stop;
    if (stop - start === 4) return reader.ipv4(start);
    if (stop - start !== 16) throw new Unreadable(`an address of ${stop - start} bytes`);
    return formatIp(reader.bytes.subarray(start, stop));
  }

  uint32Value(end: number): number {
    const { reader } = this;
    const stop = reader.delimited(end);
    let value = 0;
    while (reader.next(stop)) {
      if (reader.field === 1) value = reader.varint();
      else reader.skip(stop);
    }
    return value;
  }

  waypoint(end: number): GatewayAddress {
    return this.part(WAYPOINT, end, readWaypoint);
  }

  networkGateway(end: number): GatewayAddress {
    return this.part(NETWORK_GATEWAY, end, readNetworkGateway);
  }

  /** A GatewayAddress from here to `stop`. */
  gateway(stop: number, what: string): GatewayAddress {
    const { reader } = this;
    let destination: string | undefined;
    let port = 0;
    while (reader.next(stop)) {
      switch (reader.field) {
        case 1:
          once(destination !== undefined, `the ${what}'s destination`);
          destination = this.#namespacedHostname(stop, what);
          break;
        case 2: {
          once(destination !== undefined, `the ${what}'s destination`);
          const { network, ip } = this.networkAddress(stop);
          destination = networkAddress(network, ip);
          break;
        }
        case 3:
          port = reader.varint();
          break;
        default:
          reader.skip(stop);
      }
    }
    if (destination === undefined) throw new Unreadable(`the ${what} has no destination`);
    return { destination, hboneMtlsPort: portNumber(port, `the ${what}'s port`) };
  }

  #namespacedHostname(end: number, what: string): string {
    const reader = this.reader;
    const stop = reader.delimited(end);
    let namespace = "", hostname = "";
    while (reader.next(stop)) {
      if (reader.field === 1) namespace = reader.text(stop);
      else if (reader.field === 2) hostname = reader.text(stop);
      else reader.skip(stop);
    }
    // The two travel as one text from here on: a slash in the first would move the border between them, an ip would read as an address.
    if (namespace === "" || namespace.includes("/") || hostname === "" || canonicalIp(hostname) !== undefined) {
      throw new Unreadable(
        `the ${what}'s destination ${quote(`${namespace}/${hostname}`)} is no namespace and hostname`,
      );
    }
    return `${namespace}/${hostname}`;
  }

  networkAddress(end: number): NetworkIp {
    const reader = this.reader;
    const stop = reader.delimited(end);
    let network = "";
    let bytes: Uint8Array | undefined;
    let length: number | undefined;
    while (reader.next(stop)) {
      if (reader.field === 1) network = this.shared.text(reader, stop);
      else if (reader.field === 2) bytes = reader.view(stop);
      else if (reader.field === 3) length = reader.varint();
      else reader.skip(stop);
    }
    if (bytes === undefined || (bytes.length !== 4 && bytes.length !== 16)) {
      throw new Unreadable(`an address of ${bytes?.length ?? 0} bytes`);
    }
    // As above: the ip is what follows the first slash.
    if (network.includes("/")) throw new Unreadable(`the network ${quote(network)} has a slash in its name`);
    return { network, ip: formatIp(bytes), bytes, length };
  }

  /** All Ports in fields of this number. */
  ports(field: number, end: number): PortMap {
    const reader = this.reader;
    const ports: Record<number, number> = {};
    while (reader.next(end)) {
      if (reader.field !== field) {
        reader.skip(end);
        continue;
      }
      const stop = reader.delimited(end);
      let servicePort = 0, targetPort = 0;
      while (reader.next(stop)) {
        if (reader.field === 1) servicePort = reader.varint();
        else if (reader.field === 2) targetPort = reader.varint();
        // The application protocol is no proxy's business.
        else if (reader.field === 3) reader.varint();
        else reader.skip(stop);
      }
      ports[portNumber(servicePort, "service port")] = portNumber(targetPort, "target port");
    }
    return ports;
  }
}

function readWaypoint(parts: PartReader, stop: number): GatewayAddress {
  return parts.gateway(stop, "waypoint");
}

function readNetworkGateway(parts: PartReader, stop: number): GatewayAddress {
  return parts.gateway(stop, "network gateway");
}

export interface NetworkIp {
  readonly network: string;
  readonly ip: string;
  readonly bytes: Uint8Array;
  readonly length: number | undefined;
}

/** The occurrences of a repeated field: shared as a whole when they stand together, as every encoder writes them. */
export class Run {
  #start = -1;
  #stop = -1;

  /** Begins anew. */
  reset(): void {
    this.#start = -1;
  }

  /** Notes the field whose tag was just read, and reads past it. */
  add(reader: WireReader, end: number): void {
    if (this.#start === -1) this.#start = reader.tagStart;
    reader.pos = reader.delimited(end);
    this.#stop = reader.pos;
  }

  /** What `make` reads from the first occurrence to the end of the last; it skips what stands between. */
  read<T>(parts: PartReader, kind: number, none: T, make: (parts: PartReader, stop: number) => T): T {
    if (this.#start === -1) return none;
    return parts.shared.part(kind, parts.reader, this.#start, this.#stop, make, parts);
  }
}

/** The numbers of a repeated field, packed or one by one. */
export function eachNumber(reader: WireReader, end: number, take: (value: number) => void): void {
  if (reader.wireType === VARINT) return take(reader.uint32());
  const stop = reader.delimited(end);
  while (reader.pos < stop) take(reader.uint32());
  if (reader.pos > stop) throw new Unreadable(`malformed: field ${reader.field} is longer than its message`);
}

/** Canonical text of a range. A v4-mapped one counts its length in IPv6 bits. */
export function cidrOf(bytes: Uint8Array, length: number): string {
  const mapped = bytes.length === 16 && !formatIp(bytes).includes(":");
  const address = mapped ? bytes.subarray(12) : bytes;
  const prefixLength = mapped ? length - 96 : length;
  if (prefixLength < 0 || prefixLength > address.length * 8) {
    throw new Unreadable(`an address range of ${length} bits around an address of ${bytes.length} bytes`);
  }
  return formatCidr({ bytes: maskIp(address, prefixLength), prefixLength });
}
