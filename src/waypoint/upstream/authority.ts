/** The host of `host:port`, in lower case and without brackets. */
export function hostOf(authority: string): string {
  const bracket = authority.lastIndexOf("]");
  const colon = authority.lastIndexOf(":");
  let host = colon > bracket && authority.indexOf(":") === colon ? authority.slice(0, colon) : authority;
  if (bracket >= 0) host = authority.slice(1, bracket);
  return /[A-Z]/.test(host) ? host.toLowerCase() : host;
}
