/** The cluster's own PKI: certificates of API server, its clients and kubelets, by the `openssl` program. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tool } from "../../../src/local/run_tool.ts";

export class ClusterPki {
  private constructor(readonly directory: string) {}

  static async create(directory: string): Promise<ClusterPki> {
    const pki = new ClusterPki(directory);
    const [ca, account] = [pki.path("ca"), pki.path("sa")];
    await Promise.all([
      tool([
        "openssl",
        "req",
        "-x509",
        ...NEW_KEY,
        "-keyout",
        `${ca}.key`,
        "-out",
        `${ca}.crt`,
        "-subj",
        "/CN=lab-ca",
        "-days",
        "2",
      ]),
      tool(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${account}.key`]),
    ]);
    await tool(["openssl", "ec", "-in", `${account}.key`, "-pubout", "-out", `${account}.pub`]);
    return pki;
  }

  /** Path of a file without its ending. */
  path(name: string): string {
    return join(this.directory, name);
  }

  /** Makes `name`.crt and `name`.key. `names` is OpenSSL's text of subject alternative names. */
  async issue(name: string, subject: string, names = ""): Promise<void> {
    const path = this.path(name);
    const usage = "extendedKeyUsage=serverAuth,clientAuth";
    await writeFile(`${path}.ext`, names === "" ? usage : `${usage}\nsubjectAltName=${names}\n`);
    await tool(["openssl", "req", ...NEW_KEY, "-keyout", `${path}.key`, "-out", `${path}.csr`, "-subj", subject]);
    const signed = [
      "-CA",
      this.path("ca.crt"),
      "-CAkey",
      this.path("ca.key"),
      "-set_serial",
      `0x${randomBytes(8).toString("hex")}`,
      "-days",
      "2",
    ];
    await tool([
      "openssl",
      "x509",
      "-req",
      "-in",
      `${path}.csr`,
      ...signed,
      "-out",
      `${path}.crt`,
      "-extfile",
      `${path}.ext`,
    ]);
  }

  /** A kubeconfig for the client certificate `name`. Resolves with its path. */
  async kubeconfig(name: string, server: string): Promise<string> {
    const path = this.path(`${name}.conf`);
    await writeFile(
      path,
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        "current-context": "lab",
        contexts: [{ name: "lab", context: { cluster: "lab", user: name } }],
        clusters: [{ name: "lab", cluster: { server, "certificate-authority": this.path("ca.crt") } }],
        users: [{
          name,
          user: { "client-certificate": this.path(`${name}.crt`), "client-key": this.path(`${name}.key`) },
        }],
      }),
    );
    return path;
  }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
