/**
 * The CNI protocol around the plugin: environment, standard input, versions, and one JSON text on standard output.
 * CNI specification 1.1.0; order and codes of the checks as in CNI's Go library 1.3.0 (reference cni.md 2.1).
 */
import { CNI_ERROR, CniError, formatError } from "./cni_error.ts";
import { type CniRequest, type Environment, isCniName, readRequest } from "./request.ts";
import {
  type CniVersion,
  compareVersions,
  isSupported,
  LATEST_VERSION,
  requireSupported,
  SUPPORTED_VERSIONS,
} from "./versions.ts";

export interface ProtocolIo {
  readonly env: Environment;
  /** All of standard input. @throws Error */
  readStdin(): string;
  /** Returns when everything is written. @throws Error */
  writeStdout(text: string): void;
  writeStderr(text: string): void;
  /** Whether this path is the plugin's own network namespace; false when it leads nowhere. @throws Error */
  isOwnNetns(path: string): boolean;
}

/** A valid ADD. Resolves to the text of the result. */
export type AddCommand = (request: CniRequest, conf: AddInput) => Promise<string>;

export interface AddInput {
  /** The configuration, as it came. */
  readonly text: string;
  readonly version: CniVersion;
}

const EXIT_FAILED = 1;

/** The first version of the configuration that allows a command. */
const SINCE: Readonly<Record<string, string>> = { CHECK: "0.4.0", GC: "1.1.0", STATUS: "1.1.0" };

/** Does what the environment asks for, and gives the exit code. `failed` hears of errors before they are printed. */
export async function runProtocol(
  io: ProtocolIo,
  about: () => Promise<string>,
  add: AddCommand,
  failed: (error: CniError) => void,
): Promise<number> {
  if ((io.env["CNI_COMMAND"] ?? "") === "") {
    io.writeStderr(`${await about()}\nCNI protocol versions supported: ${SUPPORTED_VERSIONS.join(", ")}\n`);
    return 0;
  }
  // An error is told in the configuration's version, as far as that is known.
  const known: { version: string } = { version: LATEST_VERSION };
  try {
    const output = await answer(io, add, known);
    if (output !== "") io.writeStdout(output);
    return 0;
  } catch (thrown) {
    const error = CniError.from(thrown);
    failed(error);
    io.writeStdout(formatError(error, known.version));
    return EXIT_FAILED;
  }
}

async function answer(io: ProtocolIo, add: AddCommand, known: { version: string }): Promise<string> {
  const request = readRequest(io.env);
  const { command } = request;
  if (command === "VERSION") {
    return JSON.stringify({ cniVersion: LATEST_VERSION, supportedVersions: SUPPORTED_VERSIONS }) + "\n";
  }
  const text = readConf(io);
  const version = versionOf(text);
  if (isSupported(version)) known.version = version;
  switch (command) {
    case "ADD":
    case "DEL":
      requireSupported(version);
      refuseOwnNetns(request, io);
      // A DEL leaves nothing to do: the agent learns of it from the API server.
      return command === "ADD" ? await add(request, { text, version }) : "";
    case "CHECK":
    case "GC":
    case "STATUS":
      if (compareVersions(version, SINCE[command]) < 0) {
        throw new CniError(CNI_ERROR.incompatibleVersion, `config version does not allow ${command}`);
      }
      requireSupported(version);
      return "";
    default:
      throw new CniError(CNI_ERROR.invalidEnvironment, `unknown CNI_COMMAND: ${command}`);
  }
}

function readConf(io: ProtocolIo): string {
  let text: string;
  try {
    text = io.readStdin();
  } catch (error) {
    throw new CniError(CNI_ERROR.ioFailure, `error reading from stdin: ${(error as Error).message}`);
  }
  const name = fieldOf(text, "name");
  if (name === "") throw new CniError(CNI_ERROR.invalidConfig, "missing network name");
  if (!isCniName(name)) {
    throw new CniError(CNI_ERROR.invalidConfig, "invalid characters found in network name", name);
  }
  return text;
}

function versionOf(text: string): string {
  return fieldOf(text, "cniVersion") || "0.1.0";
}

/** A field of text; empty when absent. @throws CniError with code 6 */
function fieldOf(conf: string, name: string): string {
  let value: unknown;
  try {
    const parsed = JSON.parse(conf);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw new Error("it is no object");
    value = parsed[name] ?? "";
  } catch (error) {
    throw new CniError(CNI_ERROR.decodingFailure, `cannot read the network config: ${(error as Error).message}`);
  }
  if (typeof value === "string") return value;
  throw new CniError(CNI_ERROR.decodingFailure, `cannot read the network config: ${name} must be a string`);
}

/**
 * The Go library looks after the command has done its work. Here it is before: rules for a pod must not go into the
 * node's own namespace.
 */
function refuseOwnNetns({ netns, netnsOverride }: CniRequest, io: ProtocolIo): void {
  if (netns === "" || netnsOverride || !io.isOwnNetns(netns)) return;
  throw new CniError(
    CNI_ERROR.invalidNetns,
    "plugin's netns and netns from CNI_NETNS should not be the same",
    `CNI_NETNS is ${netns}`,
  );
}
