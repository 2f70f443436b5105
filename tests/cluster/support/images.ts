/** What is in the images of the cluster: Istio's own programs, and ambit as deploy/Dockerfile makes it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ClusterBinaries } from "../../../scripts/support/cluster_binaries.ts";
import { ROOT } from "../../../scripts/support/tools.ts";
import { file, folder, type ImageSpec, library, link, program } from "./image.ts";
import type { TarEntry } from "./tar.ts";

export const PAUSE_IMAGE = "localhost/pause:lab";
export const APP_IMAGE = "localhost/app:lab";
export const COREDNS_IMAGE = "localhost/coredns:lab";
export const ISTIOD_IMAGE = "localhost/istiod:lab";
/** Istio's own node agent. */
export const STOCK_CNI_IMAGE = "localhost/install-cni:lab";
/** For all roles. */
export const AMBIT_IMAGE = "localhost/ambit:lab";

export function clusterImages(binaries: ClusterBinaries, ambit: string): Readonly<Record<string, ImageSpec>> {
  return {
    pause: { name: PAUSE_IMAGE, entries: [file(binaries.app, "app")], entrypoint: ["/app", "pause"] },
    app: { name: APP_IMAGE, entries: [file(binaries.app, "app")], entrypoint: ["/app", "serve"] },
    coredns: { name: COREDNS_IMAGE, entries: [file(binaries.coredns, "coredns")], entrypoint: ["/coredns"] },
    istiod: {
      name: ISTIOD_IMAGE,
      entries: [file(binaries.istiod, "usr/local/bin/pilot-discovery")],
      entrypoint: ["/usr/local/bin/pilot-discovery"],
      user: "1337:1337",
    },
    stockCni: {
      name: STOCK_CNI_IMAGE,
      entries: [
        file(binaries.installCni, "usr/local/bin/install-cni"),
        file(binaries.istioCni, "opt/cni/bin/istio-cni"),
        ...netfilterTools(),
      ],
      entrypoint: ["/usr/local/bin/install-cni"],
      workingDirectory: "/opt/cni/bin",
    },
    ambit: {
      name: AMBIT_IMAGE,
      entries: [
        ...program(ambit, "usr/local/bin/ambit"),
        ...library("libssl.so.3"),
        // Linked by every image of the Debian that this is: the name of a role is the name of the program.
        link("usr/local/bin/install-cni", "ambit"),
        link("opt/cni/bin/istio-cni", "/usr/local/bin/ambit"),
        ...netfilterTools(),
        ...program(sbin("nft")),
        ...program(sbin("ipset")),
        ...program(sbin("ip")),
      ],
      entrypoint: ["/usr/local/bin/ambit"],
      env: ambitEnvironment(),
    },
  };
}

/** What deploy/Dockerfile sets, with its arguments' defaults. */
function ambitEnvironment(): Readonly<Record<string, string>> {
  const text = readFileSync(join(ROOT, "deploy/Dockerfile"), "utf8");
  const args = new Map([...text.matchAll(/^ARG (\w+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]));
  const settings = [...text.matchAll(/^ENV (.*)$/gm)].flatMap(([, words = ""]) => words.split(" "));
  return Object.fromEntries(settings.map((setting) => {
    const [name = "", value = ""] = setting.split("=");
    return [name, value.replace(/^\$\{(\w+)\}$/, (_, argument: string) => args.get(argument) ?? "")];
  }));
}

/** iptables of both back ends and both families, under all their names, with their extensions. */
function netfilterTools(): TarEntry[] {
  const links = ["iptables", "ip6tables"].flatMap((family) =>
    ["", "-save", "-restore"].flatMap((verb) => [
      link(`usr/sbin/${family}${verb}`, "xtables-nft-multi"),
      link(`usr/sbin/${family}-nft${verb}`, "xtables-nft-multi"),
      link(`usr/sbin/${family}-legacy${verb}`, "xtables-legacy-multi"),
    ])
  );
  return [
    ...program(sbin("xtables-nft-multi")),
    ...program(sbin("xtables-legacy-multi")),
    ...folder(extensions()),
    ...links,
  ];
}

function sbin(name: string): string {
  const path = ["/usr/sbin", "/sbin", "/usr/bin"].map((directory) => `${directory}/${name}`).find(existsSync);
  if (path === undefined) throw new Error(`${name} is not on this machine: deno task setup installs it`);
  return path;
}

/** Where this distribution keeps what iptables loads. */
function extensions(): string {
  const triplets = readdirSync("/usr/lib").filter((name) => name.endsWith("-linux-gnu"));
  const path = triplets.map((name) => `/usr/lib/${name}/xtables`).find(existsSync);
  if (path === undefined) throw new Error("iptables' extensions are not on this machine: install the package iptables");
  return path;
}
