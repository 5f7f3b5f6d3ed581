/**
 * What a caller of creditd meets: a check, a burn and its retry, a denial, and an error taken apart. To run it against
 * `creditd dev --demo`: `npm run tour`.
 */
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";

import { type Client, Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Entitlements, errorDetails, Reason } from "@creditd/client";

export type EntitlementsClient = Client<typeof Entitlements>;

/** Asks; nothing is burned. */
export function check(client: EntitlementsClient) {
  return client.check({
    account: "demo",
    feature: "chat",
    attributes: { model: "gpt-4o" },
    usage: { input_tokens: 1000n, output_tokens: 500n },
  });
}

/** Burns, once for each key however often it is called. */
export function consume(client: EntitlementsClient, idempotencyKey: string) {
  return client.consume({
    account: "demo",
    feature: "chat",
    attributes: { model: "gpt-4o" },
    usage: { input_tokens: 1000n, output_tokens: 500n },
    idempotencyKey,
  });
}

/** Asks for 9e15 micro-credits, about the largest amount there is. The denial is an answer, no error. */
export function consumeTooMuch(client: EntitlementsClient) {
  return client.consume({
    account: "demo",
    feature: "chat",
    attributes: { model: "gpt-4o" },
    usage: { output_tokens: 8_999_999_999_999n },
  });
}

/** Has two faults: no account, and both ways to say how much. */
export function checkMalformed(client: EntitlementsClient) {
  return client.check({ feature: "chat", quantity: 1n, usage: { input_tokens: 1000n } });
}

async function tour(client: EntitlementsClient): Promise<void> {
  const answer = await check(client);
  console.log(`check: ${Reason[answer.reason]}, costs ${answer.costMicros} of ${answer.balance?.availableMicros} micro-credits`);

  // The key belongs to one operation of yours, such as one request of a user, and stays the same when you retry.
  const key = `tour-${randomUUID()}`;
  for (const attempt of [1, 2]) {
    const { chargedMicros, replayed, balance } = await consume(client, key);
    console.log(`consume ${attempt}: burned ${chargedMicros}, replayed=${replayed}, ${balance?.availableMicros} left`);
  }

  const denial = await consumeTooMuch(client);
  console.log(`denied: allowed=${denial.allowed}, ${Reason[denial.reason]}, ${denial.shortfallMicros} missing`);

  try {
    await checkMalformed(client);
  } catch (error) {
    const details = errorDetails(error);
    if (details === undefined) {
      throw error;
    }
    console.log(`error: ${Code[details.code]}, ${details.reason} of ${details.domain}`);
    for (const { field, description } of details.violations) {
      console.log(`  ${field}: ${description}`);
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const address = process.env["CREDITD_ADDRESS"] ?? "127.0.0.1:50051";
  await tour(createClient(Entitlements, createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 10_000 })));
}
