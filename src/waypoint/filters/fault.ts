/** Envoy's fault filter: a delay, then an abort, each for a share of a route's requests (VirtualService fault). */
import { Timer } from "../../net/reactor.ts";
import type { FilterOutcome, HttpFilter, RequestContext } from "../engine/request_context.ts";
import type { Timing } from "../http/timing.ts";
import type { FaultSpec } from "../spec/mod.ts";

export function createFaultFilter(timing: Timing, random: () => number): HttpFilter {
  const happens = (fraction: number): boolean => fraction > 0 && random() * 1_000_000 < fraction;
  return {
    name: "envoy.filters.http.fault",
    request(context, resume): FilterOutcome {
      const fault = context.route()?.fault;
      if (fault === undefined) return "pass";
      // Both are drawn at once, so that a delay does not change who is aborted.
      const aborts = fault.abort !== undefined && happens(fault.abort.fraction);
      if (fault.delay === undefined || !happens(fault.delay.fraction)) return aborts ? abort(context, fault) : "pass";
      context.flags.add("DI");
      const timer = new Timer({
        expired() {
          if (aborts) abort(context, fault);
          else resume();
        },
      });
      timing.setTimer(timer, fault.delay.ms);
      context.onEnd(() => timing.cancelTimer(timer));
      return "waiting";
    },
  };
}

function abort(context: RequestContext, { abort }: FaultSpec): FilterOutcome {
  if (abort === undefined) return "pass";
  const isGrpc = abort.kind === "grpc";
  context.answer({
    status: isGrpc ? 200 : abort.status,
    body: "fault filter abort",
    details: "fault_filter_abort",
    flag: "FI",
    ...(isGrpc ? { grpcStatus: abort.status } : {}),
  });
  return "answered";
}
