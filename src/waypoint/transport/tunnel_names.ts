/** Who may be at the other end of a tunnel, by the URI names that its certificate proves. */
import type { TextPredicate } from "../match/text.ts";

/** A certificate may hold thousands of names; the log shows the first. */
const NAMES_SHOWN = 3;

/**
 * The client is who its one URI name says. A certificate with several could be judged by one name and act under another; an X.509 SVID has exactly
 * one, and istiod issues no others. No tests: any name of the mesh.
 */
export function admitClient(
  uris: readonly string[],
  tests: readonly TextPredicate[],
): { readonly identity: string } | { readonly refusal: string } {
  const shown = uris.slice(0, NAMES_SHOWN).join(",") || "no name";
  if (uris.length !== 1 || uris[0] === "") {
    return { refusal: `the client's certificate must have exactly one URI name, and has ${uris.length}: ${shown}` };
  }
  const [name] = uris;
  if (tests.length > 0 && !tests.some((matches) => matches(name))) {
    return { refusal: `the client is of none of the trust domains that are let in: ${shown}` };
  }
  return { identity: name };
}

/** A text refuses the far end of a tunnel that was opened here. No tests: any name of the mesh. */
export function refuseEndpoint(uris: readonly string[], tests: readonly TextPredicate[]): string | undefined {
  if (tests.length === 0 || uris.some((uri) => tests.some((test) => test(uri)))) return undefined;
  const shown = uris.slice(0, NAMES_SHOWN).join(", ") || "nobody";
  return `the endpoint's certificate is of ${shown}, which is not of this mesh`;
}
