/**
 * A CA that speaks istiod's CreateCertificate and does what a test tells it: signs with other times, refuses, says nothing. It signs with the
 * key that istiod signs with, so its certificates are good in the same mesh. A program of its own; one JSON object a line on standard
 * input sets what it does, one a line on standard output says what it was asked.
 *
 *   test_ca_server.ts PORT CERTIFICATE KEY CACERTS_DIRECTORY
 */
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import process from "node:process";
import { createInterface } from "node:readline";
import { IstioCertificateService } from "../../../src/gen/istio/auth/ca_pb.ts";
import { type LeafTimes, MeshCa } from "./mesh_ca.ts";

export interface CaBehaviour extends LeafTimes {
  readonly kind: "sign" | "refuse" | "silent";
}

export interface CaEvent {
  readonly identity: string;
  readonly did: string;
}

if (import.meta.main) {
  const [port = "", certificate = "", key = "", cacerts = ""] = process.argv.slice(2);
  const ca = await MeshCa.load(cacerts);
  let behaviour: CaBehaviour = { kind: "sign" };
  const say = (event: CaEvent) => process.stdout.write(`${JSON.stringify(event)}\n`);
  const routes = (router: ConnectRouter) =>
    router.service(IstioCertificateService, {
      async createCertificate({ csr, metadata }) {
        const identity = String(metadata?.["ImpersonatedIdentity"] ?? "");
        const { kind } = behaviour;
        say({ identity, did: kind });
        if (kind === "refuse") throw new ConnectError("told to refuse", Code.PermissionDenied);
        if (kind === "silent") await new Promise(() => {});
        const { chain, roots } = await ca.sign(csr, identity, behaviour);
        return { certChain: [...chain, ...roots] };
      },
    });
  const options = { cert: readFileSync(certificate), key: readFileSync(key) };
  const server = createSecureServer(options, connectNodeAdapter({ routes }));
  server.listen(Number(port), "0.0.0.0", () => say({ identity: "", did: "listening" }));
  for await (const line of createInterface({ input: process.stdin })) behaviour = JSON.parse(line) as CaBehaviour;
  process.exit(0);
}
