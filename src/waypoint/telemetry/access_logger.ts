/** The access loggers of a chain, made once: which facts they want, and where what they make of them goes. A log decides nothing and holds up nobody. */
import type { FormatEnvironment } from "../format/environment.ts";
import { compileFormat, unknownCommands } from "../format/compile.ts";
import type { FormatFacts } from "../format/facts.ts";
import { compileJson, compileJsonValue } from "../format/json.ts";
import type { AccessLogFilter, AccessLogSpec, Format, JsonFormat } from "../spec/mod.ts";
import { grpcRecord } from "./grpc_record.ts";
import type { LogCollector, LogRecord } from "./messages.ts";

export interface AccessLogDeps {
  readonly formats: FormatEnvironment;
  /** CEL of filters. */
  readonly test: (expression: string) => (facts: FormatFacts) => boolean;
  /** Takes whole lines. */
  readonly open: (path: string) => (line: string) => void;
  readonly record: (to: LogCollector, record: LogRecord) => void;
  readonly ids: (facts: FormatFacts) => { readonly traceId: string; readonly spanId: string } | undefined;
  /** Something of a format that nobody knows here. */
  readonly warn: (text: string) => void;
}

export type AccessLogger = (facts: FormatFacts) => void;

/** One that has no logs does nothing at all. */
export function compileAccessLogs(specs: readonly AccessLogSpec[], deps: AccessLogDeps): AccessLogger | undefined {
  if (specs.length === 0) return undefined;
  const loggers = specs.map((spec) => compileOne(spec, deps));
  if (loggers.length === 1) return loggers[0];
  return (facts) => {
    for (const log of loggers) log(facts);
  };
}

function compileOne({ filter, to }: AccessLogSpec, deps: AccessLogDeps): AccessLogger {
  const write = writer(to, deps);
  if (filter === undefined) return write;
  const wanted = compileFilter(filter, deps);
  return (facts) => {
    if (wanted(facts)) write(facts);
  };
}

function writer(to: AccessLogSpec["to"], deps: AccessLogDeps): AccessLogger {
  const { formats } = deps;
  warnOfUnknown(to, deps.warn);
  switch (to.kind) {
    case "text": {
      const line = compileFormat(to.format, formats, "-");
      const sink = deps.open(to.path);
      return (facts) => sink(line(facts));
    }
    case "json": {
      const line = compileJson(to.format, formats, to.omitEmpty);
      const sink = deps.open(to.path);
      return (facts) => sink(line(facts) + "\n");
    }
    case "otel": {
      const { cluster, logName, resource } = to;
      const collector: LogCollector = { kind: "otel", cluster, logName, resource };
      const body = to.body && compileJsonValue(to.body, formats);
      const attributes = to.attributes && compileJsonValue(to.attributes, formats);
      return (facts) => {
        const ids = deps.ids(facts);
        deps.record(collector, {
          kind: "otel",
          timeMs: facts.startedAtWallMs,
          body: body?.(facts)["body"],
          attributes: attributes?.(facts) ?? {},
          traceId: ids?.traceId ?? "",
          spanId: ids?.spanId ?? "",
        });
      };
    }
    case "grpc": {
      const collector: LogCollector = { kind: "grpc", cluster: to.cluster, logName: to.logName };
      return (facts) => deps.record(collector, grpcRecord(facts));
    }
  }
}

function compileFilter(filter: AccessLogFilter, deps: AccessLogDeps): (facts: FormatFacts) => boolean {
  switch (filter.kind) {
    case "status": {
      const { op, value } = filter;
      const status = ({ request }: FormatFacts) => request?.facts.status ?? 0;
      if (op === ">=") return (facts) => status(facts) >= value;
      if (op === "<=") return (facts) => status(facts) <= value;
      return op === "==" ? (facts) => status(facts) === value : (facts) => status(facts) !== value;
    }
    case "flags": {
      const wanted = new Set(filter.flags);
      if (wanted.size === 0) return ({ responseFlags }) => responseFlags !== "";
      return ({ responseFlags }) => responseFlags !== "" && responseFlags.split(",").some((flag) => wanted.has(flag));
    }
    case "cel":
      return deps.test(filter.expression);
    case "and": {
      const all = filter.of.map((each) => compileFilter(each, deps));
      return (facts) => all.every((test) => test(facts));
    }
    case "or": {
      const any = filter.of.map((each) => compileFilter(each, deps));
      return (facts) => any.some((test) => test(facts));
    }
  }
}

function warnOfUnknown(to: AccessLogSpec["to"], warn: (text: string) => void): void {
  const formats: Format[] = [];
  const gather = (json: JsonFormat | undefined) => {
    for (const part of Object.values(json ?? {})) {
      if (Array.isArray(part)) formats.push(part);
      else gather(part as JsonFormat);
    }
  };
  if (to.kind === "text") formats.push(to.format);
  else if (to.kind === "json") gather(to.format);
  else if (to.kind === "otel") { for (const part of [to.body, to.attributes]) gather(part); }
  for (const command of new Set(formats.flatMap(unknownCommands))) {
    warn(`the access log command %${command}% is not known: it prints "-"`);
  }
}
