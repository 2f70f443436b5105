/**
 * Gives back memory that most served the start alone: resident pages that are byte for byte what a file holds, and so are mapped again
 * from the page cache at their next use. Nothing can be lost, because no page is touched that was ever written to or that anybody writes to.
 */
import { closeSync, openSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { libc } from "./libc.ts";
import { runtime } from "./runtime.ts";

const MADV_DONTNEED = 4;
/** Lengths travel as 32 bits. */
const MAX_RELEASE_BYTES = 2 ** 31;

/** An entry of /proc/self/auxv is a pair of 64-bit numbers, kind and value; this kind is the size of a page in bytes (getauxval(3)). */
const AT_PAGESZ = 6;

/** An entry of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst): 64 bits, of which the upper 32 tell what is asked here. */
const ENTRY_BYTES = 8;
const PRESENT = 0x8000_0000;
/** Only what was written to is swapped out. */
const SWAPPED = 0x4000_0000;
/** A page of a file, or shared: a private page that was written to is neither. */
const FILE_PAGE = 0x2000_0000;

/** Where the single binary carries the bundle, in a part that Bun maps writable and does not write to. */
const BUNDLE_SECTION = ".bun";

interface Mapping {
  readonly start: number;
  readonly end: number;
  readonly rights: string;
  /** Of its first byte in the file. */
  readonly offset: number;
  readonly file: string;
}

export interface Range {
  readonly start: number;
  readonly end: number;
}

/** What is looked through for pages. */
interface PageMap {
  readonly fd: number;
  readonly pageBytes: number;
}

export interface Residents {
  /** Runs of pages that are as in their file. */
  readonly clean: readonly Range[];
  /** There are others between them. */
  readonly written: boolean;
}

/** Returns how many bytes of address space went; 0 when the process may not look at itself. */
export function releaseStartupCode(): number {
  let maps: string;
  let program: string;
  let pagemap: PageMap;
  try {
    maps = readFileSync("/proc/self/maps", "utf8");
    program = readlinkSync("/proc/self/exe");
    pagemap = { pageBytes: pageSize(), fd: openSync("/proc/self/pagemap", "r") };
  } catch {
    // No descriptor is left: a saving is not worth the process.
    return 0;
  }
  const ranges: Range[] = [];
  try {
    for (const line of maps.split("\n")) {
      const mapping = parseMapping(line);
      if (mapping !== undefined && mapping.end - mapping.start < MAX_RELEASE_BYTES) {
        ranges.push(...asInFile(pagemap, mapping, program));
      }
    }
  } catch {
    // What cannot be looked at stays.
  } finally {
    closeSync(pagemap.fd);
  }
  // At last, and one after the other: what runs between two of them comes back.
  let bytes = 0;
  for (const { start, end } of ranges) {
    const pointer = runtime.pointerFrom(BigInt(start));
    if (pointer !== null && libc.madvise(pointer, end - start, MADV_DONTNEED) === 0) bytes += end - start;
  }
  return bytes;
}

/** What of a mapping nobody has written to, or can. */
function asInFile(pagemap: PageMap, mapping: Mapping, program: string): readonly Range[] {
  switch (mapping.rights) {
    case "r-xp":
    case "r--s":
      return [mapping];
    case "r--p":
      // Some of it may hold relocations, which are nowhere in the file: those pages have been written to.
      return residents(pagemap, mapping).clean;
    case "rw-p":
      return mapping.file === program ? bundlePages(pagemap, mapping) : [];
    default:
      return [];
  }
}

function parseMapping(line: string): Mapping | undefined {
  const match = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) (\S+) \S+ [1-9]\d*\s+(\/.*)$/.exec(line);
  if (match === null) return undefined;
  const [, start, end, rights, offset, file] = match;
  return { start: parseInt(start, 16), end: parseInt(end, 16), rights, offset: parseInt(offset, 16), file };
}

/** The bundle's part of the program's data, if this mapping holds it and no page of it was ever written to. */
function bundlePages(pagemap: PageMap, { start, end, offset }: Mapping): readonly Range[] {
  // By this name it is found, too, when another file has taken its place.
  const section = findSection("/proc/self/exe", BUNDLE_SECTION);
  if (section === undefined) return [];
  const { pageBytes } = pagemap;
  const first = Math.max(start, start + Math.ceil((section.start - offset) / pageBytes) * pageBytes);
  const last = Math.min(end, start + Math.floor((section.end - offset) / pageBytes) * pageBytes);
  if (first >= last) return [];
  const { clean, written } = residents(pagemap, { start: first, end: last });
  // Whoever writes to one of them may be about to write to another.
  return written ? [] : clean;
}

function residents({ fd, pageBytes }: PageMap, { start, end }: Range): Residents {
  const entries = new Uint32Array((end - start) / pageBytes * (ENTRY_BYTES / 4));
  const read = readSync(fd, new Uint8Array(entries.buffer), 0, entries.byteLength, start / pageBytes * ENTRY_BYTES);
  return readEntries(entries.subarray(0, read / 4), start, pageBytes);
}

/** What pagemap says of the pages from `start` on, two 32-bit words each. */
export function readEntries(words: Uint32Array, start: number, pageBytes: number): Residents {
  const clean: Range[] = [];
  let written = false;
  let from = -1;
  for (let i = 0; i <= words.length / 2; i++) {
    const flags = words[2 * i + 1] ?? 0;
    const ofFile = (flags & PRESENT) !== 0 && (flags & FILE_PAGE) !== 0;
    if ((flags & (PRESENT | SWAPPED)) !== 0 && !ofFile) written = true;
    if (ofFile && from === -1) from = i;
    if (ofFile || from === -1) continue;
    clean.push({ start: start + from * pageBytes, end: start + i * pageBytes });
    from = -1;
  }
  return { clean, written };
}

/** Bytes of a page, 4 to 64 KiB as the kernel was built. Throws when it does not say. */
function pageSize(): number {
  const bytes = new Uint8Array(readFileSync("/proc/self/auxv"));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    if (view.getBigUint64(at, true) === BigInt(AT_PAGESZ)) return Number(view.getBigUint64(at + 8, true));
  }
  throw new Error("/proc/self/auxv tells no size of a page");
}

/** Where a section stands in an ELF file of 64 bits, by the file's bytes (ELF-64 Object File Format, sections 2 and 4). */
function findSection(file: string, name: string): Range | undefined {
  const fd = openSync(file, "r");
  try {
    const at = (position: number, length: number) => {
      const bytes = new Uint8Array(length);
      const view = new DataView(bytes.buffer, 0, readSync(fd, bytes, 0, length, position));
      const number = (offset: number) => Number(view.getBigUint64(offset, true));
      return { bytes, view, number };
    };
    const header = at(0, 64);
    const entryBytes = header.view.getUint16(58, true);
    const table = at(header.number(40), entryBytes * header.view.getUint16(60, true));
    const place = (index: number) => {
      const start = table.number(index * entryBytes + 24);
      return { start, end: start + table.number(index * entryBytes + 32) };
    };
    const names = place(header.view.getUint16(62, true));
    const { bytes: texts } = at(names.start, names.end - names.start);
    for (let i = 0; i * entryBytes < table.bytes.length; i++) {
      const first = table.view.getUint32(i * entryBytes, true);
      const text = new TextDecoder().decode(texts.subarray(first, texts.indexOf(0, first)));
      if (text === name) return place(i);
    }
    return undefined;
  } finally {
    closeSync(fd);
  }
}
