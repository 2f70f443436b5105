/**
 * The kubeconfig that the plugin reads and the agent writes (reference cni.md 1.6): one cluster, one user with a token, one context.
 *
 * It is YAML of which every line is JSON as well, so that the plugin reads it without a YAML parser. Another one's file is read with
 * one, which is loaded only then.
 */
import type { KubeClientOptions } from "./client.ts";

/** Names in the file; tools that show it know them from Istio. */
const CLUSTER = "local";
const USER = "istio-cni";
const CONTEXT = "istio-cni-context";

export interface KubeconfigSource {
  /** `https://10.0.0.1:443`. */
  readonly server: string;
  /** PEM; undefined: the server is not verified. */
  readonly ca: string | undefined;
  readonly token: string;
}

const REDACTED = "REDACTED";

export function kubeconfigText({ server, ca, token }: KubeconfigSource): string {
  const cluster = ca === undefined
    ? { server, "insecure-skip-tls-verify": true }
    : { server, "certificate-authority-data": base64(ca) };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: CLUSTER, cluster }],
    users: [{ name: USER, user: { token } }],
    contexts: [{ name: CONTEXT, context: { cluster: CLUSTER, user: USER } }],
    "current-context": CONTEXT,
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}

/** For the log. */
export function redactedKubeconfig(source: KubeconfigSource): string {
  const shown = kubeconfigText({ ...source, token: REDACTED });
  return source.ca === undefined ? shown : shown.replace(base64(source.ca), REDACTED);
}

export type KubeconfigOptions = Pick<KubeClientOptions, "server" | "skipTlsVerify" | "token"> & {
  readonly ca: string | undefined;
};

/** The current context, for a client. Rejects with an error that names the field. */
export async function readKubeconfig(text: string): Promise<KubeconfigOptions> {
  return kubeconfigOptions(await parse(text));
}

/** @throws Error that names the field */
export function kubeconfigOptions(value: unknown): KubeconfigOptions {
  const config = asFields(value, "kubeconfig");
  const context = asFields(
    named(config, "contexts", textOf(config, "current-context", "kubeconfig"))["context"],
    "context",
  );
  const cluster = asFields(named(config, "clusters", textOf(context, "cluster", "context"))["cluster"], "cluster");
  const user = asFields(named(config, "users", textOf(context, "user", "context"))["user"], "user");
  const skipTlsVerify = cluster["insecure-skip-tls-verify"] === true;
  const ca = optionalText(cluster, "certificate-authority-data", "cluster");
  for (const [fields, name, where] of unsupported(cluster, user)) {
    if (fields[name] !== undefined) {
      throw new Error(`${where}.${name} is not supported: only a token and CA within the file are`);
    }
  }
  const token = optionalText(user, "token", "user");
  return {
    server: textOf(cluster, "server", "cluster"),
    // Whoever is not verified has no CA to be verified by.
    ca: skipTlsVerify || ca === undefined ? undefined : fromBase64(ca),
    skipTlsVerify,
    token: () => token,
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** What would say who we are, or whom we trust, in a way that is not looked at. */
const unsupported = (cluster: Fields, user: Fields): readonly (readonly [Fields, string, string])[] => [
  [cluster, "certificate-authority", "cluster"],
  [cluster, "tls-server-name", "cluster"],
  [cluster, "proxy-url", "cluster"],
  [user, "tokenFile", "user"],
  [user, "client-certificate", "user"],
  [user, "client-certificate-data", "user"],
  [user, "exec", "user"],
  [user, "auth-provider", "user"],
  [user, "username", "user"],
  [user, "as", "user"],
];

async function parse(text: string): Promise<unknown> {
  if (text.trimStart().startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch {
      // A flow mapping of YAML begins like that, too.
    }
  }
  const { parse } = await import("yaml");
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`kubeconfig is neither JSON nor YAML: ${(error as Error).message.split("\n", 1)[0]}`);
  }
}

function named(config: Fields, listName: string, name: string): Fields {
  const list = config[listName];
  if (!Array.isArray(list)) throw new Error(`kubeconfig: ${listName} must be a list`);
  const entry = list.find((item) => typeof item === "object" && item !== null && item.name === name);
  if (entry === undefined) throw new Error(`kubeconfig: ${listName} has no ${JSON.stringify(name)}`);
  return entry;
}

function asFields(value: unknown, where: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new Error(where === "kubeconfig" ? "kubeconfig is no object" : `kubeconfig: ${where} must be an object`);
}

function textOf(fields: Fields, name: string, where: string): string {
  const text = optionalText(fields, name, where);
  if (text === undefined || text === "") throw new Error(`kubeconfig: ${where} has no ${name}`);
  return text;
}

function optionalText(fields: Fields, name: string, where: string): string | undefined {
  const value = fields[name] ?? undefined;
  if (value === undefined || typeof value === "string") return value;
  throw new Error(`kubeconfig: ${where}.${name} must be text`);
}

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function fromBase64(text: string): string {
  let binary: string;
  try {
    binary = atob(text);
  } catch {
    throw new Error("kubeconfig: cluster.certificate-authority-data is no base64");
  }
  return new TextDecoder().decode(Uint8Array.from(binary, (character) => character.charCodeAt(0)));
}
