/** OTLP messages (opentelemetry-proto 1.x, collector/trace/v1 and collector/logs/v1), written field by field: main thread only. */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { LogRecord, SpanRecord } from "../messages.ts";

const SPAN_KIND_SERVER = 2;
const STATUS_ERROR = 2;
const SEVERITY_INFO = 9;
const SCOPE = "ambit";

type Attributes = Readonly<Record<string, unknown>>;

/** ExportTraceServiceRequest. */
export function encodeSpans(resource: Attributes, spans: readonly SpanRecord[]): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  message(writer, 1, () => {
    message(writer, 1, () => attributes(writer, 1, resource));
    message(writer, 2, () => {
      scope(writer);
      for (const span of spans) message(writer, 2, () => writeSpan(writer, span));
    });
  });
  return writer.finish();
}

function writeSpan(writer: BinaryWriter, span: SpanRecord): void {
  bytes(writer, 1, hexBytes(span.traceId.padStart(32, "0")));
  bytes(writer, 2, hexBytes(span.spanId));
  text(writer, 3, span.traceState);
  if (span.parentId !== "") bytes(writer, 4, hexBytes(span.parentId));
  text(writer, 5, span.name);
  writer.tag(6, WireType.Varint).int32(SPAN_KIND_SERVER);
  writer.tag(7, WireType.Bit64).fixed64(nanos(span.startMs));
  writer.tag(8, WireType.Bit64).fixed64(nanos(span.startMs + span.durationMs));
  attributes(writer, 9, span.tags);
  if (span.failed) message(writer, 15, () => writer.tag(3, WireType.Varint).int32(STATUS_ERROR));
}

/** ExportLogsServiceRequest. */
export function encodeLogs(
  resource: Attributes,
  records: readonly Extract<LogRecord, { readonly kind: "otel" }>[],
): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  message(writer, 1, () => {
    message(writer, 1, () => attributes(writer, 1, resource));
    message(writer, 2, () => {
      scope(writer);
      for (const record of records) {
        message(writer, 2, () => {
          writer.tag(1, WireType.Bit64).fixed64(nanos(record.timeMs));
          writer.tag(2, WireType.Varint).int32(SEVERITY_INFO);
          if (record.body !== undefined) message(writer, 5, () => anyValue(writer, record.body));
          attributes(writer, 6, record.attributes);
          if (record.traceId !== "") bytes(writer, 9, hexBytes(record.traceId.padStart(32, "0")));
          if (record.spanId !== "") bytes(writer, 10, hexBytes(record.spanId));
          writer.tag(11, WireType.Bit64).fixed64(nanos(record.timeMs));
        });
      }
    });
  });
  return writer.finish();
}

function scope(writer: BinaryWriter): void {
  message(writer, 1, () => text(writer, 1, SCOPE));
}

function attributes(writer: BinaryWriter, field: number, values: Attributes): void {
  for (const [key, value] of Object.entries(values)) {
    message(writer, field, () => {
      text(writer, 1, key);
      message(writer, 2, () => anyValue(writer, value));
    });
  }
}

function anyValue(writer: BinaryWriter, value: unknown): void {
  switch (typeof value) {
    case "string":
      writer.tag(1, WireType.LengthDelimited).string(value);
      return;
    case "boolean":
      writer.tag(2, WireType.Varint).bool(value);
      return;
    case "number":
      if (Number.isSafeInteger(value)) writer.tag(3, WireType.Varint).int64(value);
      else writer.tag(4, WireType.Bit64).double(value);
      return;
  }
  if (Array.isArray(value)) {
    return message(writer, 5, () => {
      for (const item of value) message(writer, 1, () => anyValue(writer, item));
    });
  }
  if (typeof value === "object" && value !== null) {
    message(writer, 6, () => attributes(writer, 1, value as Attributes));
  }
}

function message(writer: BinaryWriter, field: number, write: () => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write();
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  if (value !== "") writer.tag(field, WireType.LengthDelimited).string(value);
}

function bytes(writer: BinaryWriter, field: number, value: Uint8Array): void {
  writer.tag(field, WireType.LengthDelimited).bytes(value);
}

function hexBytes(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function nanos(ms: number): bigint {
  return BigInt(Math.round(ms * 1e3)) * 1000n;
}
