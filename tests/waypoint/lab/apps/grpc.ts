/** gRPC by grpc-js, server and client. Messages are JSON: what matters here is the framing, the metadata and the status. */
import * as grpc from "@grpc/grpc-js";
import type { ChatOrder, GrpcAnswer, GrpcOrder, Session } from "./protocol.ts";

type Message = Readonly<Record<string, unknown>>;

const ANSWER_MS = 30_000;
const encode = (message: Message) => Buffer.from(JSON.stringify(message));
const decode = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as Message;

function method(service: string, name: string, requestStream: boolean, responseStream: boolean) {
  return {
    path: `/${service}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: encode,
    requestDeserialize: decode,
    responseSerialize: encode,
    responseDeserialize: decode,
  };
}

function serviceOf(name: string) {
  return {
    Unary: method(name, "Unary", false, false),
    Many: method(name, "Many", false, true),
    Collect: method(name, "Collect", true, false),
    Chat: method(name, "Chat", true, true),
  };
}

/** With `fail` in the message: that status code. */
export function startGrpcServer(app: string, port: number): Promise<void> {
  const trailers = (entries: Record<string, string>) => {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(entries)) metadata.set(name, value);
    return metadata;
  };
  const told = (call: { readonly metadata: grpc.Metadata; getPeer(): string }): Message => ({
    app,
    metadata: call.metadata.getMap(),
    peer: call.getPeer(),
  });
  const server = new grpc.Server();
  const implementation: grpc.UntypedServiceImplementation = {
    Unary(call: grpc.ServerUnaryCall<Message, Message>, done: grpc.sendUnaryData<Message>) {
      const { fail } = call.request;
      if (typeof fail === "number") {
        return done({ code: fail, details: "as told", metadata: trailers({ "x-end": app }) });
      }
      const delayMs = Number(call.request["delayMs"] ?? 0);
      setTimeout(() => {
        call.sendMetadata(trailers({ "x-begin": app }));
        done(null, { ...told(call), got: call.request }, trailers({ "x-end": app }));
      }, delayMs);
    },
    Many(call: grpc.ServerWritableStream<Message, Message>) {
      for (let i = 0; i < Number(call.request["count"]); i++) call.write({ i, app });
      const { fail } = call.request;
      // An error overtakes what is still to be written.
      if (typeof fail === "number") setTimeout(() => call.emit("error", { code: fail, details: "as told" }), 50);
      else call.end(trailers({ "x-end": app }));
    },
    Collect(call: grpc.ServerReadableStream<Message, Message>, done: grpc.sendUnaryData<Message>) {
      const messages: Message[] = [];
      call.on("data", (message: Message) => messages.push(message));
      call.on("end", () => done(null, { ...told(call), messages }, trailers({ "x-end": app })));
    },
    Chat(call: grpc.ServerDuplexStream<Message, Message>) {
      call.on("data", ({ text }: Message) => call.write({ text: `${app}: ${text}` }));
      call.on("end", () => call.end(trailers({ "x-end": app })));
      call.on("error", () => {});
    },
  };
  for (const name of ["lab.Echo", "lab.Other"]) server.addService(serviceOf(name), implementation);
  return new Promise((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`[::]:${port}`, credentials, (error) => error === null ? resolve() : reject(error));
  });
}

// deno-lint-ignore no-explicit-any -- grpc-js knows the methods of a generic client only when it runs
type Client = grpc.Client & Readonly<Record<string, (...args: any[]) => any>>;

function createClient(target: string, service = "lab.Echo", authority?: string): Client {
  const Constructor = grpc.makeGenericClientConstructor(serviceOf(service), service);
  return new Constructor(target, grpc.credentials.createInsecure(), {
    // Each client has connections of its own, and says at once that it has none.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    ...(authority === undefined ? {} : { "grpc.default_authority": authority }),
  }) as unknown as Client;
}

function metadataOf(entries: Readonly<Record<string, string>> = {}): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(entries)) metadata.set(name, value);
  return metadata;
}

export async function callGrpc(order: GrpcOrder): Promise<GrpcAnswer> {
  const client = createClient(order.target, order.service, order.authority);
  const messages: Message[] = [];
  const first = order.messages?.[0] ?? {};
  const options = { deadline: Date.now() + (order.deadlineMs ?? ANSWER_MS) };
  const metadata = metadataOf(order.metadata);
  const taken = (_: unknown, message: Message | undefined) => void (message !== undefined && messages.push(message));
  const name = order.method;
  const call = name === "Unary"
    ? client[name]!(first, metadata, options, taken)
    : name === "Many"
    ? client[name]!(first, metadata, options)
    : client[name]!(metadata, options, taken);
  if (name === "Many") {
    call.on("data", (message: Message) => messages.push(message));
    call.on("error", () => {});
  }
  if (name === "Collect") {
    for (const message of order.messages ?? []) call.write(message);
    call.end();
  }
  let headers: Record<string, string> = {};
  call.on("metadata", (list: grpc.Metadata) => headers = texts(list));
  const status = await new Promise<grpc.StatusObject>((resolve) => call.on("status", resolve));
  // The answer of a call with one message comes after its status.
  await new Promise((resolve) => setTimeout(resolve, 0));
  client.close();
  return { code: status.code, details: status.details, messages, headers, trailers: texts(status.metadata) };
}

function texts(metadata: grpc.Metadata): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata.getMap()).map(([name, value]) => [name, String(value)]));
}

export function openChat({ target, metadata }: ChatOrder): Promise<Session> {
  const client = createClient(target);
  const call = client["Chat"]!(metadataOf(metadata));
  const waiting: { resolve(text: string): void; reject(error: Error): void }[] = [];
  let ended: (status: unknown) => void = () => {};
  const end = new Promise<unknown>((resolve) => ended = resolve);
  call.on("data", ({ text }: Message) => waiting.shift()?.resolve(String(text)));
  call.on("error", () => {});
  call.on("status", (status: grpc.StatusObject) => {
    ended({ code: status.code, details: status.details, trailers: texts(status.metadata) });
    for (const { reject } of waiting.splice(0)) reject(new Error(`the stream ended: ${status.code} ${status.details}`));
    client.close();
  });
  return Promise.resolve({
    talk(text) {
      return new Promise<string>((resolve, reject) => {
        waiting.push({ resolve, reject });
        call.write({ text });
      });
    },
    end() {
      call.end();
      return end;
    },
  });
}
