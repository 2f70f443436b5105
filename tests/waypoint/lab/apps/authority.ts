/**
 * Who is asked about requests and tokens: ext_authz over HTTP and over gRPC, and a server of key sets. Takes the key set on its command line.
 *
 *   authority.ts NAME JWKS
 *
 * A request that carries `x-ext-authz: allow` is allowed, `x-ext-authz: hang` is never answered, all others are denied. What the authority was told
 * goes to the application as `x-saw`.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import process from "node:process";
import { CheckRequestSchema, CheckResponseSchema } from "../../../../src/gen/envoy/service/auth/v3/external_auth_pb.ts";
import { AUTHORITY_PORTS } from "./protocol.ts";

const [name = "authority", keySet = "{}"] = process.argv.slice(2);
const DENIED = 7;

async function checkHttp(request: Request): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  const { headers, method } = request;
  const body = await request.text();
  const saw = {
    method,
    path: pathname + search,
    host: headers.get("host"),
    who: headers.get("x-who"),
    secret: headers.get("x-secret"),
    provider: headers.get("x-from-provider"),
    bytes: body.length,
  };
  const wish = headers.get("x-ext-authz");
  if (wish === "hang") await new Promise(() => {});
  const answer = {
    "x-saw": JSON.stringify(saw),
    "x-added": "by-authority",
    "x-client": "for-client",
    "x-private": "no",
  };
  if (wish === "allow") return new Response("", { headers: answer });
  return new Response("no, says the authority", { status: 403, headers: { ...answer, "x-denied": "by-authority" } });
}

const header = (key: string, value: string) => ({ header: { key, value }, appendAction: 2 });

function checkGrpc(bytes: Uint8Array): Uint8Array {
  const { attributes } = fromBinary(CheckRequestSchema, bytes);
  const { method, path, host, headers = {}, body = "", rawBody } = attributes?.request?.http ?? {};
  const socket = attributes?.source?.address?.address;
  const saw = {
    method,
    path,
    host,
    who: headers["x-who"],
    bytes: body.length + (rawBody?.length ?? 0),
    source: socket?.case === "socketAddress" ? socket.value.address : "",
    principal: attributes?.source?.principal,
  };
  // A connection has no headers; who may open one is told by its port.
  const port = attributes?.destination?.address?.address;
  const connection = attributes?.request?.http === undefined && port?.case === "socketAddress" &&
    port.value.portSpecifier.case === "portValue" && port.value.portSpecifier.value % 2 === 0;
  const allowed = connection || headers["x-ext-authz"] === "allow";
  const message = allowed
    ? {
      status: { code: 0 },
      httpResponse: {
        case: "okResponse" as const,
        value: {
          headers: [header("x-saw", JSON.stringify(saw)), header("x-added", "by-authority")],
          headersToRemove: ["x-secret"],
          responseHeadersToAdd: [header("x-client", "for-client")],
        },
      },
    }
    : {
      status: { code: DENIED },
      httpResponse: {
        case: "deniedResponse" as const,
        value: { status: { code: 418 }, headers: [header("x-denied", "by-authority")], body: "no, says the authority" },
      },
    };
  return toBinary(CheckResponseSchema, create(CheckResponseSchema, message));
}

const raw = (bytes: Uint8Array) => Buffer.from(bytes);
const server = new grpc.Server();
server.addService({
  Check: {
    path: "/envoy.service.auth.v3.Authorization/Check",
    requestStream: false,
    responseStream: false,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  },
}, {
  Check(call: grpc.ServerUnaryCall<Uint8Array, Uint8Array>, done: grpc.sendUnaryData<Uint8Array>) {
    try {
      done(null, checkGrpc(call.request));
    } catch (error) {
      done({ code: grpc.status.INTERNAL, details: String(error) });
    }
  },
});
await new Promise<void>((resolve, reject) => {
  const credentials = grpc.ServerCredentials.createInsecure();
  server.bindAsync(`[::]:${AUTHORITY_PORTS.grpc}`, credentials, (error) => error === null ? resolve() : reject(error));
});
const quiet = { hostname: "::", onListen() {} };
Deno.serve({ ...quiet, port: AUTHORITY_PORTS.http }, checkHttp);
Deno.serve(
  { ...quiet, port: AUTHORITY_PORTS.keys },
  ({ url }) => new URL(url).pathname === "/keys" ? new Response(keySet) : new Response("none here", { status: 404 }),
);
// As long as the test is there.
process.stdin.on("end", () => process.exit(0)).resume();
process.stdout.write(`${JSON.stringify({ serves: name })}\n`);
