/** Which virtual host a request is for: exact names first, then the longest `*.suffix`, the longest `prefix.*`, then any. */
import { lowerCase } from "../match/text.ts";

export class HostIndex<T> {
  readonly #exact = new Map<string, T>();
  readonly #suffixes: { readonly text: string; readonly host: T }[] = [];
  readonly #prefixes: { readonly text: string; readonly host: T }[] = [];
  #any: T | undefined;

  constructor(hosts: readonly { readonly domains: readonly string[]; readonly host: T }[]) {
    for (const { domains, host } of hosts) {
      for (const domain of domains) {
        if (domain === "*") this.#any ??= host;
        else if (domain.startsWith("*")) this.#suffixes.push({ text: domain.slice(1), host });
        else if (domain.endsWith("*")) this.#prefixes.push({ text: domain.slice(0, -1), host });
        else if (!this.#exact.has(domain)) this.#exact.set(domain, host);
      }
    }
    const longestFirst = (a: { readonly text: string }, b: { readonly text: string }): number =>
      b.text.length - a.text.length;
    this.#suffixes.sort(longestFirst);
    this.#prefixes.sort(longestFirst);
  }

  find(authority: string): T | undefined {
    // Nearly every table has one host, for all names.
    if (this.#exact.size === 0 && this.#suffixes.length === 0 && this.#prefixes.length === 0) return this.#any;
    const name = lowerCase(authority);
    const exact = this.#exact.get(name);
    if (exact !== undefined) return exact;
    // A wildcard stands for at least one character.
    for (const { text, host } of this.#suffixes) if (name.length > text.length && name.endsWith(text)) return host;
    for (const { text, host } of this.#prefixes) if (name.length > text.length && name.startsWith(text)) return host;
    return this.#any;
  }
}
