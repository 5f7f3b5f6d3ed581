import { type Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** What a failed call tells. */
export interface ErrorDetails {
  /** The gRPC status code. */
  readonly code: Code;
  /** What is wrong, in words; for people, not stable. */
  readonly message: string;
  /**
   * Stable, such as `FEATURE_NOT_FOUND`: decide on it. Empty when the error was not made by a creditd server, as when
   * none answers.
   */
  readonly reason: string;
  /** `creditd`, or empty like `reason`. */
  readonly domain: string;
  /** The variables of `message`, such as the id that was not found. */
  readonly metadata: Readonly<Record<string, string>>;
  /** All the faults of a malformed request. */
  readonly violations: readonly Violation[];
  /** How long to wait before a retry, in milliseconds; undefined when the server does not say. */
  readonly retryDelayMs: number | undefined;
}

/** One fault of a request. */
export interface Violation {
  /** Path of the field, such as `usage["input_tokens"]`. */
  readonly field: string;
  /** What is wrong with it. */
  readonly description: string;
}

/** Takes the error of a call apart; undefined for what is no error of a call. */
export function errorDetails(error: unknown): ErrorDetails | undefined {
  if (!(error instanceof ConnectError)) {
    return undefined;
  }
  const [info] = error.findDetails(ErrorInfoSchema);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: error.code,
    message: error.rawMessage,
    reason: info?.reason ?? "",
    domain: info?.domain ?? "",
    metadata: info?.metadata ?? {},
    violations: error
      .findDetails(BadRequestSchema)
      .flatMap((request) => request.fieldViolations.map(({ field, description }) => ({ field, description }))),
    retryDelayMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}
