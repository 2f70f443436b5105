/**
 * What a kubelet makes of a pod's spec: values of the environment from the downward API, and volumes as directories. Files of tokens, labels and
 * configuration are written as the kubelet writes them: a new directory, and a link that is swapped.
 */
import { chown, mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import type { KubeApi, KubeObject } from "../../../istiod/support/kube_api.ts";
import type { Mount } from "./container.ts";

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: {
    readonly fieldRef?: { readonly fieldPath: string };
    readonly resourceFieldRef?: { readonly resource: string; readonly divisor?: string };
  };
}

interface Volume {
  readonly name: string;
  readonly emptyDir?: unknown;
  readonly downwardAPI?: {
    readonly items: readonly { readonly path: string; readonly fieldRef: { readonly fieldPath: string } }[];
  };
  readonly projected?: { readonly sources: readonly { readonly serviceAccountToken?: { readonly path: string } }[] };
  readonly configMap?: { readonly name: string };
}

export interface ContainerSpec {
  readonly name: string;
  readonly args: readonly string[];
  readonly env: readonly EnvVar[];
  readonly resources?: { readonly limits?: Readonly<Record<string, string>> };
  readonly securityContext?: Readonly<Record<string, unknown>>;
  readonly startupProbe?: ProbeSpec;
  readonly readinessProbe?: ProbeSpec;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
}

export interface ProbeSpec {
  readonly failureThreshold: number;
  readonly periodSeconds: number;
  readonly httpGet: { readonly path: string; readonly port: number };
}

export interface PodSpec {
  readonly serviceAccountName: string;
  readonly containers: readonly ContainerSpec[];
  readonly volumes: readonly Volume[];
  readonly terminationGracePeriodSeconds?: number;
}

/** The environment of a container of `pod`, in which `$(NAME)` stands for what was said before. */
export function environmentOf(pod: KubeObject, { env, resources }: ContainerSpec): Record<string, string> {
  const made: Record<string, string> = {};
  for (const { name, value, valueFrom } of env) {
    const { fieldRef, resourceFieldRef } = valueFrom ?? {};
    made[name] = fieldRef !== undefined
      ? fieldOf(pod, fieldRef.fieldPath)
      : resourceFieldRef !== undefined
      ? limitOf(resources?.limits ?? {}, resourceFieldRef.resource, resourceFieldRef.divisor)
      : expand(value ?? "", made);
  }
  return made;
}

/** `$(NAME)` by the environment, as the kubelet does: `$$(` stays, and what is not known too. */
export function expand(text: string, env: Readonly<Record<string, string>>): string {
  return text.replaceAll(
    /\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)/g,
    (all, name: string | undefined) => all === "$$" ? "$" : env[name!] ?? all,
  );
}

function fieldOf(pod: KubeObject, path: string): string {
  const { podIP, hostIP } = pod.status as { podIP: string; hostIP: string };
  const { nodeName, serviceAccountName } = pod.spec as { nodeName: string; serviceAccountName: string };
  switch (path) {
    case "metadata.name":
      return pod.metadata.name;
    case "metadata.namespace":
      return pod.metadata.namespace ?? "";
    case "metadata.labels":
      return mapFile(pod.metadata.labels);
    case "metadata.annotations":
      return mapFile(pod.metadata.annotations);
    case "spec.nodeName":
      return nodeName;
    case "spec.serviceAccountName":
      return serviceAccountName;
    case "status.podIP":
      return podIP;
    case "status.hostIP":
      return hostIP;
    default:
      throw new Error(`a pod's spec refers to ${path}, which this kubelet does not know`);
  }
}

/** A line a label, its value quoted. */
function mapFile(map: Readonly<Record<string, string>> = {}): string {
  return Object.entries(map).sort(([a], [b]) => a < b ? -1 : 1).map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join("\n");
}

const SUFFIXES: Readonly<Record<string, number>> = { m: 1e-3, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, "": 1 };

function limitOf(limits: Readonly<Record<string, string>>, resource: string, divisor = "1"): string {
  const limit = limits[resource.replace("limits.", "")];
  if (limit === undefined) throw new Error(`no ${resource} is set, and the node's own size is not known here`);
  return String(Math.ceil(quantity(limit) / (quantity(divisor) || 1)));
}

function quantity(text: string): number {
  const match = /^([0-9.]+)([a-zA-Z]*)$/.exec(text);
  const factor = SUFFIXES[match?.[2] ?? "?"];
  if (match === null || factor === undefined) throw new Error(`${text}: not a quantity that is known here`);
  return Number(match[1]) * factor;
}

/** The volumes of one pod, as directories below `directory`. */
export class Volumes {
  readonly #api: KubeApi;
  readonly #pod: KubeObject;
  readonly #directory: string;
  readonly #user: number;
  #swaps = 0;

  constructor(api: KubeApi, pod: KubeObject, directory: string, user: number) {
    this.#api = api;
    this.#pod = pod;
    this.#directory = directory;
    this.#user = user;
  }

  /** Makes all of them, and says where the container wants each. */
  async mount(spec: PodSpec, container: ContainerSpec): Promise<Mount[]> {
    for (const volume of spec.volumes) {
      const path = join(this.#directory, volume.name);
      await mkdir(path, { recursive: true });
      if (volume.emptyDir !== undefined) chmodSync(path, 0o777);
      else await this.#swap(path, await this.#contents(volume));
    }
    return this.mounts(spec, container);
  }

  /** Where the container wants each, once they are made. */
  mounts(spec: PodSpec, container: ContainerSpec): Mount[] {
    return container.volumeMounts.map(({ name, mountPath, readOnly }) => {
      const volume = spec.volumes.find((volume) => volume.name === name);
      if (volume === undefined) throw new Error(`the container mounts ${name}, which is no volume of its pod`);
      return {
        source: join(this.#directory, name),
        target: mountPath,
        readOnly: readOnly === true || volume.emptyDir === undefined,
      };
    });
  }

  /** Writes the files of one volume anew, as for a token that is getting old. `change` may put something else into them. */
  async renew(spec: PodSpec, name: string, change?: Readonly<Record<string, string>>): Promise<void> {
    const volume = spec.volumes.find((volume) => volume.name === name)!;
    await this.#swap(join(this.#directory, name), { ...await this.#contents(volume), ...change });
  }

  async #contents({ name, downwardAPI, projected, configMap }: Volume): Promise<Readonly<Record<string, string>>> {
    const { namespace = "" } = this.#pod.metadata;
    if (downwardAPI !== undefined) {
      return Object.fromEntries(
        downwardAPI.items.map(({ path, fieldRef }) => [path, fieldOf(this.#pod, fieldRef.fieldPath)]),
      );
    }
    if (configMap !== undefined) {
      const { data } = await this.#api.get({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: configMap.name, namespace },
      });
      return data as Record<string, string>;
    }
    const path = projected?.sources[0]?.serviceAccountToken?.path;
    if (path === undefined) throw new Error(`the volume ${name} is of a kind that this kubelet does not know`);
    const { serviceAccountName } = this.#pod.spec as { serviceAccountName: string };
    const { name: podName, uid } = this.#pod.metadata;
    return { [path]: await this.#api.createToken(namespace, serviceAccountName, { name: podName, uid: uid! }) };
  }

  /** All files change at once. */
  async #swap(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
    const version = `..v${++this.#swaps}`;
    await mkdir(join(directory, version));
    for (const [name, text] of Object.entries(files)) {
      const path = join(directory, version, name);
      await writeFile(path, text, { mode: 0o600 });
      await chown(path, this.#user, this.#user);
      // From the second time on it is there.
      await symlink(join("..data", name), join(directory, name)).catch(() => {});
    }
    chmodSync(join(directory, version), 0o755);
    await symlink(version, join(directory, "..new"));
    await rename(join(directory, "..new"), join(directory, "..data"));
  }
}
