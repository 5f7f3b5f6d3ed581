import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { type ConnectError, Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Entitlements, errorDetails, Reason } from "@creditd/client";

import { check, checkMalformed, consume, consumeTooMuch } from "../examples/tour.js";

const address = process.env["CREDITD_ADDRESS"];

/** 1,000 input tokens at 0.25 and 500 output tokens at 1 credit per 1,000. */
const COST_MICROS = 750_000n;

describe("against a server", { skip: address ? false : "CREDITD_ADDRESS names no server (`creditd dev --demo` is one)" }, () => {
  const baseUrl = `http://${address}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const client = createClient(Entitlements, createGrpcTransport({ baseUrl, sessionManager, defaultTimeoutMs: 30_000 }));
  after(() => sessionManager.abort());

  async function available(): Promise<bigint> {
    const { balance } = await check(client);
    assert.ok(balance);
    return balance.availableMicros;
  }

  test("a check tells the cost, and a balance beyond 32 bits", async () => {
    const answer = await check(client);
    assert.deepEqual([answer.allowed, answer.reason, answer.costMicros], [true, Reason.COVERED, COST_MICROS]);
    assert.ok((await available()) > 2n ** 32n);
  });

  test("a consume burns once for a key", async () => {
    const before = await available();
    const key = `test-${randomUUID()}`;
    const first = await consume(client, key);
    assert.deepEqual([first.allowed, first.replayed, first.chargedMicros], [true, false, COST_MICROS]);
    assert.equal(first.balance?.availableMicros, before - COST_MICROS);
    const second = await consume(client, key);
    assert.deepEqual([second.replayed, second.entryId, second.chargedMicros], [true, first.entryId, COST_MICROS]);
    assert.equal(await available(), before - COST_MICROS);
  });

  test("a denial is an answer, with the exact shortfall", async () => {
    const before = await available();
    const denial = await consumeTooMuch(client);
    assert.deepEqual([denial.allowed, denial.reason, denial.entryId], [false, Reason.INSUFFICIENT_CREDITS, ""]);
    assert.equal(denial.shortfallMicros, 8_999_999_999_999_000n - before);
  });

  test("a malformed request tells every violation", async () => {
    await assert.rejects(checkMalformed(client), (error: ConnectError) => {
      const details = errorDetails(error);
      assert.deepEqual(
        [details?.code, details?.reason, details?.domain],
        [Code.InvalidArgument, "INVALID_ARGUMENT", "creditd"],
      );
      assert.deepEqual(details?.violations.map(({ field }) => field).sort(), ["account", "usage"]);
      assert.ok(details?.violations.every(({ description }) => description !== ""));
      return true;
    });
  });

  test("an unknown feature is named in the metadata", async () => {
    await assert.rejects(client.check({ account: "demo", feature: "no-such" }), (error: ConnectError) => {
      const details = errorDetails(error);
      assert.deepEqual([details?.code, details?.reason], [Code.NotFound, "FEATURE_NOT_FOUND"]);
      assert.equal(details?.metadata["key"], "no-such");
      return true;
    });
  });

  for (const [example, expected] of [
    ["first-check", /^true COVERED 750000n$/m],
    ["tour", /consume 2: burned 750000, replayed=true/],
  ] as const) {
    test(`the example ${example} runs as a program`, async () => {
      const program = fileURLToPath(new URL(`../examples/${example}.js`, import.meta.url));
      const { stdout } = await promisify(execFile)(process.execPath, [program], { timeout: 60_000 });
      assert.match(stdout, expected);
    });
  }
});
