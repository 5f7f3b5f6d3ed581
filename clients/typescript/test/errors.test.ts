import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorDetails } from "@creditd/client";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";

test("an error is taken apart into reason, violations and delay", () => {
  const error = new ConnectError("2 faults", Code.InvalidArgument, undefined, [
    { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: "INVALID_ARGUMENT", domain: "creditd", metadata: { id: "7" } }) },
    {
      desc: BadRequestSchema,
      value: create(BadRequestSchema, {
        fieldViolations: [
          { field: "account", description: "is empty" },
          { field: "usage", description: "is negative" },
        ],
      }),
    },
    { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: { seconds: 1n, nanos: 500_000_000 } }) },
  ]);
  assert.deepEqual(errorDetails(error), {
    code: Code.InvalidArgument,
    message: "2 faults",
    reason: "INVALID_ARGUMENT",
    domain: "creditd",
    metadata: { id: "7" },
    violations: [
      { field: "account", description: "is empty" },
      { field: "usage", description: "is negative" },
    ],
    retryDelayMs: 1500,
  });
});

test("an error without details has its code and no reason", () => {
  assert.deepEqual(errorDetails(new ConnectError("connection refused", Code.Unavailable)), {
    code: Code.Unavailable,
    message: "connection refused",
    reason: "",
    domain: "",
    metadata: {},
    violations: [],
    retryDelayMs: undefined,
  });
});

test("what is no error of a call is not taken apart", () => {
  for (const other of [new Error("disk full"), "text", undefined]) {
    assert.equal(errorDetails(other), undefined);
  }
});
