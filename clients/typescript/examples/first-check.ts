import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Entitlements, Reason } from "@creditd/client";

const address = process.env["CREDITD_ADDRESS"] ?? "127.0.0.1:50051";
const client = createClient(Entitlements, createGrpcTransport({ baseUrl: `http://${address}` }));
const answer = await client.check({
  account: "demo",
  feature: "chat",
  attributes: { model: "gpt-4o" },
  usage: { input_tokens: 1000n, output_tokens: 500n },
});
console.log(answer.allowed, Reason[answer.reason], answer.costMicros);
