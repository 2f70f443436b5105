/** `GRPC_STATUS(form)`: the status of a gRPC call, by its name or number. */
import type { Evaluate, Maker } from "./environment.ts";

const NAMES = [
  "OK",
  "Canceled",
  "Unknown",
  "InvalidArgument",
  "DeadlineExceeded",
  "NotFound",
  "AlreadyExists",
  "PermissionDenied",
  "ResourceExhausted",
  "FailedPrecondition",
  "Aborted",
  "OutOfRange",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss",
  "Unauthenticated",
];
const SNAKE_NAMES = NAMES.map((name) =>
  name === "Canceled" ? "CANCELLED" : name.replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase()
);

const number: Evaluate = ({ request }) => request?.facts.grpcStatus;

/** `CAMEL_STRING` unless told. A number that has no name is said as it is. */
export const grpcStatus: Maker = (argument) => {
  if (argument === "NUMBER") return number;
  const names = argument === "SNAKE_STRING" ? SNAKE_NAMES : NAMES;
  return (facts) => {
    const status = number(facts);
    return status === undefined || status === "" ? undefined : names[Number(status)] ?? status;
  };
};
