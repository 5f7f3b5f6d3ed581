/** Client of creditd: its services, its messages, and its errors taken apart. */

export * from "./errors.js";
export * from "./gen/creditd/v1/accounts_pb.js";
export * from "./gen/creditd/v1/catalog_pb.js";
export * from "./gen/creditd/v1/entitlements_pb.js";
export * from "./gen/creditd/v1/grants_pb.js";
export * from "./gen/creditd/v1/ledger_pb.js";
export * from "./gen/creditd/v1/test_clocks_pb.js";
export { type Money, MoneySchema } from "./gen/google/type/money_pb.js";
