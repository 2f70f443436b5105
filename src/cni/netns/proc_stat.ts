/** When a process began, from `/proc/PID/stat` (proc(5)). Pure. */

/** Field 22 is the 20th after the name, which stands in parentheses and may hold any character. */
const START_TIME_FIELD = 20;

/** In ticks since the node was started, exact: it is more than 2^53 for no node that will ever run. Undefined for malformed text. */
export function readStartTime(stat: string): number | undefined {
  const nameEnd = stat.lastIndexOf(")");
  if (nameEnd < 0) return undefined;
  const field = stat.slice(nameEnd + 1).trim().split(/[ \n]+/)[START_TIME_FIELD - 1];
  if (field === undefined || !/^\d{1,20}$/.test(field)) return undefined;
  const ticks = Number(field);
  return Number.isSafeInteger(ticks) ? ticks : undefined;
}
