/** Reads a ztunnel's access-log line out of what `ambit local` prints. */

export interface AccessLine {
  readonly node: string;
  readonly level: string;
  readonly message: string;
  /** `src.workload`, `dst.addr`, …; the text without its quotes. */
  readonly fields: Readonly<Record<string, string>>;
}

/** Undefined when the line is no access-log line. */
export function parseAccessLine(line: string): AccessLine | undefined {
  const bar = line.indexOf(" | ");
  if (bar < 0) return undefined;
  const [, level, target, message, text] = line.slice(bar + 3).split("\t");
  if (target !== "access" || level === undefined || message === undefined || text === undefined) return undefined;
  const fields: Record<string, string> = {};
  for (const [, key, value] of text.matchAll(/([\w.]+)=("(?:[^"\\]|\\.)*"|\S+)/g)) {
    fields[key!] = value!.startsWith('"') ? JSON.parse(value!) as string : value!;
  }
  return { node: line.slice(0, bar).trim(), level, message, fields };
}
