/** Envoy's grpc_stats as istiod sets it: messages of gRPC requests and answers, for istio_request_messages_total and its like. */
import { isGrpc } from "../engine/local_answer.ts";
import type { FilterOutcome, HttpFilter } from "../engine/request_context.ts";
import { GrpcFrameCounter } from "./grpc_frames.ts";

export const grpcStatsFilter: HttpFilter = {
  name: "envoy.filters.http.grpc_stats",
  request(context): FilterOutcome {
    if (!isGrpc(context.head)) return "pass";
    const { facts } = context;
    const sent = new GrpcFrameCounter();
    const received = new GrpcFrameCounter();
    context.onRequestData((bytes, start, end) => {
      sent.data(bytes, start, end);
      facts.requestMessages = sent.messages;
    });
    context.onResponseData((bytes, start, end) => {
      received.data(bytes, start, end);
      facts.responseMessages = received.messages;
    });
    return "pass";
  },
};
