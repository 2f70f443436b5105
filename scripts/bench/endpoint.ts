/** "10.0.0.1:8080" to an address and a port; throws on anything else. The benchmark speaks IPv4 only. */
export function parseEndpoint(text: string): { readonly ip: string; readonly port: number } {
  const match = /^(\d+\.\d+\.\d+\.\d+):(\d+)$/.exec(text);
  if (match === null) throw new Error(`"${text}" is not an IPv4 address and port`);
  return { ip: match[1], port: Number(match[2]) };
}
