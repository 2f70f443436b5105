/** What the DNS proxy needs of ztunnel's configuration; cloneable. */
export interface DnsSettings {
  readonly clusterDomain: string;
  readonly preferredNamespace: string | undefined;
  /** Of answers from the mesh. */
  readonly ttlSeconds: number;
  readonly ipv6Enabled: boolean;
  /** The search domains are those of the own /etc/resolv.conf, as in dedicated mode, and not those that Kubernetes gives to pods. */
  readonly systemSearch: boolean;
}
