/**
 * Addresses for what the mesh file leaves open. A name keeps its addresses as long as the book lives, so that an edit of
 * the file moves nobody.
 */
/** What an address is for decides the range it comes from. */
export type AddressKind = "node" | "pod" | "service";
export type Family = "ipv4" | "ipv6";

/** Ranges as in a common cluster; each holds 65,534 names. They exist only inside the mesh's own namespaces. */
const RANGES: Readonly<Record<AddressKind, Readonly<Record<Family, string>>>> = {
  node: { ipv4: "172.30", ipv6: "fd00:172:30" },
  pod: { ipv4: "10.244", ipv6: "fd00:10:244" },
  service: { ipv4: "10.96", ipv6: "fd00:10:96" },
};
const RANGE_SIZE = 65_534;

export class AddressBook {
  readonly #numbers = new Map<string, number>();
  readonly #next: Record<AddressKind, number> = { node: 1, pod: 1, service: 1 };

  /**
   * The addresses of `name`, one per family, the same every time. `taken` are addresses that the file itself gives away.
   * Throws `RangeError` when the range is used up.
   */
  allocate(kind: AddressKind, name: string, families: readonly Family[], taken: ReadonlySet<string>): string[] {
    const key = `${kind} ${name}`;
    let number = this.#numbers.get(key);
    let addresses = number === undefined ? undefined : families.map((family) => format(kind, family, number!));
    while (addresses === undefined || addresses.some((address) => taken.has(address))) {
      const next = this.#next[kind]++;
      if (next > RANGE_SIZE) throw new RangeError(`no ${kind} address left for ${name}`);
      number = next;
      addresses = families.map((family) => format(kind, family, next));
    }
    this.#numbers.set(key, number!);
    return addresses;
  }
}

function format(kind: AddressKind, family: Family, number: number): string {
  const range = RANGES[kind][family];
  return family === "ipv4" ? `${range}.${number >> 8}.${number & 255}` : `${range}::${number.toString(16)}`;
}

/** Why a node or pod cannot have `address`, or undefined when it can. */
export function unusableAddress(address: string): string | undefined {
  if (/^(127\.|0\.|169\.254\.|22[4-9]\.|23\d\.|255\.)/.test(address) || /^(::1?$|fe[89ab]|ff)/.test(address)) {
    return `${address} is not a unicast address that can be routed`;
  }
  return undefined;
}
