/** Times as Envoy's formats write them: ISO 8601 with milliseconds, or strftime with `%3f` and its kin. */

const pad = (value: number, digits: number): string => String(value).padStart(digits, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** The second that was written last: the next line is mostly of the same. */
let lastSecond = NaN;
let lastPrefix = "";

/** `2016-03-08T17:43:00.123Z`. */
function isoTime(wallMs: number): string {
  const second = Math.floor(wallMs / 1000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastPrefix = new Date(second * 1000).toISOString().slice(0, -4);
  }
  return `${lastPrefix}${pad(Math.floor(wallMs - second * 1000), 3)}Z`;
}

/** `wallMs`: since 1970, UTC. An empty `format` is `2016-03-08T17:43:00.123Z`. */
export function formatTime(wallMs: number, format: string): string {
  if (format === "") return isoTime(wallMs);
  const date = new Date(Math.floor(wallMs));
  return format.replace(/%(\d?)([A-Za-z%])/g, (whole, digits: string, letter: string) => {
    switch (letter) {
      case "Y":
        return String(date.getUTCFullYear());
      case "m":
        return pad(date.getUTCMonth() + 1, 2);
      case "d":
        return pad(date.getUTCDate(), 2);
      case "H":
        return pad(date.getUTCHours(), 2);
      case "M":
        return pad(date.getUTCMinutes(), 2);
      case "S":
        return pad(date.getUTCSeconds(), 2);
      case "F":
        return `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1, 2)}-${pad(date.getUTCDate(), 2)}`;
      case "T":
        return `${pad(date.getUTCHours(), 2)}:${pad(date.getUTCMinutes(), 2)}:${pad(date.getUTCSeconds(), 2)}`;
      case "b":
        return MONTHS[date.getUTCMonth()];
      case "a":
        return DAYS[date.getUTCDay()];
      case "z":
        return "+0000";
      case "Z":
        return "UTC";
      case "s":
        return String(Math.floor(wallMs / 1000));
      case "f": {
        const nanos = pad(Math.floor((wallMs % 1000) * 1e6), 9);
        return nanos.slice(0, digits === "" ? 9 : Number(digits));
      }
      case "%":
        return "%";
      default:
        return whole;
    }
  });
}
