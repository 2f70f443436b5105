/** Content negotiation, RFC 9110 sections 12.4.2 and 12.5: weighted lists of media types and codings. */

export interface Weighted {
  /** Lower case, without parameters. */
  readonly value: string;
  /** 0 to 1. */
  readonly quality: number;
}

/** Most items read of a list; the rest is ignored. */
const MAX_ITEMS = 64;

/** Reads an `Accept…` header. Malformed items are passed over, a malformed weight counts as 0. */
export function parseWeightedList(header: string): Weighted[] {
  const items: Weighted[] = [];
  for (const part of header.split(",", MAX_ITEMS)) {
    const [name, ...parameters] = part.split(";");
    const value = name.trim().toLowerCase();
    if (value === "") continue;
    let quality = 1;
    for (const parameter of parameters) {
      const match = /^\s*q\s*=\s*(.*?)\s*$/i.exec(parameter);
      if (match !== null) quality = /^(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$/.test(match[1]) ? Number(match[1]) : 0;
    }
    items.push({ value, quality });
  }
  return items;
}

/** Whether the media type itself is named and not refused. A wildcard does not count. */
export function namesMediaType(accept: string, mediaType: string): boolean {
  return parseWeightedList(accept).some((item) => item.value === mediaType && item.quality > 0);
}

/** `undefined` is identity. */
export type ContentCoding = "zstd" | "gzip" | "br" | "deflate" | undefined;

/** On equal weights the first wins: by CPU spent for the size reached. */
const CODINGS = ["zstd", "gzip", "br", "deflate"] as const;

/** The acceptable coding of the highest weight. Identity wins only when it is weighted higher than each coding. */
export function chooseCoding(acceptEncoding: string): ContentCoding {
  const items = parseWeightedList(acceptEncoding);
  const weight = (coding: string) => items.find((item) => item.value === coding)?.quality;
  const wildcard = weight("*") ?? 0;
  let best: ContentCoding;
  let bestQuality = 0;
  for (const coding of CODINGS) {
    const quality = weight(coding) ?? wildcard;
    if (quality > bestQuality) {
      best = coding;
      bestQuality = quality;
    }
  }
  return (weight("identity") ?? 0) > bestQuality ? undefined : best;
}
