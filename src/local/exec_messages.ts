/**
 * What `ambit local exec` and the running `ambit local` say to each other: one JSON object a line over a unix socket in the
 * run's directory, which only its owner can enter.
 */

/** Asks to run `command` in the pod or node `where` ("name" or "namespace/name"). The first and only line of the client. */
export interface ExecRequest {
  readonly where: string;
  readonly command: readonly string[];
}

/** Output is base64, as it may be any bytes. `exit` or `error` is the last line. */
export type ExecReply =
  | { readonly type: "stdout" | "stderr"; readonly data: string }
  | { readonly type: "exit"; readonly code: number }
  | { readonly type: "error"; readonly message: string };

export const EXEC_SOCKET = "exec.sock";
/** A command line, or one chunk of output as base64; in bytes. */
export const EXEC_MAX_LINE_BYTES = 4 * 1024 * 1024;

/** Throws a `TypeError` on anything that is not a request. */
export function decodeExecRequest(line: string): ExecRequest {
  const value: unknown = JSON.parse(line);
  if (typeof value === "object" && value !== null && "where" in value && "command" in value) {
    const { where, command } = value;
    const isCommand = Array.isArray(command) && command.length > 0;
    if (typeof where === "string" && isCommand && command.every((item): item is string => typeof item === "string")) {
      return { where, command };
    }
  }
  throw new TypeError("not an exec request");
}

/** Throws a `TypeError` on anything that is not a reply. */
export function decodeExecReply(line: string): ExecReply {
  const value = JSON.parse(line) as Partial<Record<string, unknown>> | null;
  const { type, data, code, message } = value ?? {};
  if ((type === "stdout" || type === "stderr") && typeof data === "string") return { type, data };
  if (type === "exit" && isExitCode(code)) return { type, code: Math.abs(code) }; // JSON knows a minus zero
  if (type === "error" && typeof message === "string") return { type, message };
  throw new TypeError("not an exec reply");
}

function isExitCode(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 255;
}
