/**
 * A client of istiod that shares nothing with ambit's own but the generated messages: connect's stock transport. It runs as a
 * program of its own beside istiod, takes one JSON object on standard input and prints one.
 *
 *   {"kind": "certificate", "identity", "token"}   the material of a proxy that asks for its own certificate
 *   {"kind": "resources", "typeUrl", "token", "node"}   names and versions of all that istiod sends first
 */
import { fromBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import process from "node:process";
import { AggregatedDiscoveryService, ResourceSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";
import { IstioCertificateService } from "../../../src/gen/istio/auth/ca_pb.ts";
import { createKeyAndRequest } from "../../../src/identity/csr.ts";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";

export interface CertificateQuestion {
  readonly kind: "certificate";
  readonly identity: string;
  readonly token: string;
  readonly root: string;
  readonly ttlSeconds: number;
}

export interface ResourcesQuestion {
  readonly kind: "resources";
  readonly typeUrl: string;
  readonly token: string;
  readonly root: string;
  readonly nodeId: string;
}

const ISTIOD = "istiod.istio-system.svc";
const TIMEOUT_MS = 15_000;

function transport(root: string) {
  return createGrpcTransport({
    baseUrl: "https://127.0.0.1:15012",
    nodeOptions: { ca: root, servername: ISTIOD },
  });
}

async function certificate({ identity, token, root, ttlSeconds }: CertificateQuestion): Promise<TlsMaterial> {
  const { privateKeyPem, csrPem } = createKeyAndRequest(identity);
  const client = createClient(IstioCertificateService, transport(root));
  const headers = { authorization: `Bearer ${token}`, clusterid: "Kubernetes" };
  const answer = await client.createCertificate({ csr: csrPem, validityDuration: BigInt(ttlSeconds) }, {
    headers,
    timeoutMs: TIMEOUT_MS,
  });
  return { privateKey: privateKeyPem, chain: answer.certChain.slice(0, -1), roots: answer.certChain.slice(-1) };
}

async function resources(
  { typeUrl, token, root, nodeId }: ResourcesQuestion,
): Promise<Readonly<Record<string, string>>> {
  const client = createClient(AggregatedDiscoveryService, transport(root));
  let end = () => {};
  const ended = new Promise<void>((resolve) => end = resolve);
  const ask = async function* () {
    yield { node: { id: nodeId }, typeUrl };
    await ended;
  };
  const headers = { authorization: `Bearer ${token}`, clusterid: "Kubernetes" };
  for await (const response of client.deltaAggregatedResources(ask(), { headers, timeoutMs: TIMEOUT_MS })) {
    end();
    return Object.fromEntries(response.resources.map((bytes) => {
      const { name, version } = fromBinary(ResourceSchema, bytes);
      return [name, version];
    }));
  }
  throw new Error("istiod ended the stream without an answer");
}

if (import.meta.main) {
  const chunks: Uint8Array[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
  const question = JSON.parse(Buffer.concat(chunks).toString()) as CertificateQuestion | ResourcesQuestion;
  const answer = question.kind === "certificate" ? await certificate(question) : await resources(question);
  await new Promise((resolve) => process.stdout.write(JSON.stringify(answer), resolve));
  process.exit(0);
}
