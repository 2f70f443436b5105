/**
 * What a container runtime asks for, in environment variables: CNI specification, section "Execution Protocol", with the
 * checks of CNI's Go library (reference cni.md 2.1).
 */
import { CNI_ERROR, CniError } from "./cni_error.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface CniRequest {
  /** ADD, DEL and so on, or whatever else was asked for. */
  readonly command: string;
  readonly containerId: string;
  /** Path; empty for a DEL of a sandbox whose namespace is gone. */
  readonly netns: string;
  readonly ifName: string;
  readonly args: string;
  /** The runtime says that the plugin's own network namespace may be meant. */
  readonly netnsOverride: boolean;
}

/** Which commands cannot do without a variable; other commands need none. */
const VARIABLES: readonly { readonly name: string; readonly neededBy: readonly string[] }[] = [
  { name: "CNI_CONTAINERID", neededBy: ["ADD", "CHECK", "DEL"] },
  { name: "CNI_NETNS", neededBy: ["ADD", "CHECK"] },
  { name: "CNI_IFNAME", neededBy: ["ADD", "CHECK", "DEL"] },
  { name: "CNI_PATH", neededBy: ["ADD", "CHECK", "DEL", "GC", "STATUS"] },
];

/** Linux's IFNAMSIZ without the terminating zero. */
const INTERFACE_NAME_MAX_BYTES = 15;

/** `CNI_COMMAND` must be there. @throws CniError with code 4 */
export function readRequest(env: Environment): CniRequest {
  const get = (name: string) => env[name] ?? "";
  const command = get("CNI_COMMAND");
  const needs = (name: string) =>
    VARIABLES.some((variable) => variable.name === name && variable.neededBy.includes(command));
  const [containerId, ifName] = [get("CNI_CONTAINERID"), get("CNI_IFNAME")];
  if (containerId !== "" && needs("CNI_CONTAINERID")) checkContainerId(containerId);
  if (ifName !== "" && needs("CNI_IFNAME")) checkInterfaceName(ifName);
  const missing = VARIABLES.map(({ name }) => name).filter((name) => needs(name) && get(name) === "");
  if (missing.length > 0) throw invalid(`required env variables [${missing.join()}] missing`);
  const override = get("CNI_NETNS_OVERRIDE");
  return {
    command,
    containerId,
    netns: get("CNI_NETNS"),
    ifName,
    args: get("CNI_ARGS"),
    netnsOverride: override === "1" || override.toUpperCase() === "TRUE",
  };
}

/** For container ids and names of networks. */
export function isCniName(text: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text);
}

function checkContainerId(id: string): void {
  if (!isCniName(id)) throw invalid("invalid characters in containerID", id);
}

function checkInterfaceName(name: string): void {
  if (new TextEncoder().encode(name).length > INTERFACE_NAME_MAX_BYTES) {
    throw invalid("interface name is too long", `at most ${INTERFACE_NAME_MAX_BYTES} bytes are allowed`);
  }
  if (name === "." || name === "..") throw invalid("interface name is . or ..");
  // U+0085 is white space for Go and not for JavaScript.
  if (/[/:\s\u0085]/.test(name)) throw invalid("interface name contains / or : or whitespace characters", name);
}

function invalid(message: string, details = ""): CniError {
  return new CniError(CNI_ERROR.invalidEnvironment, message, details);
}
