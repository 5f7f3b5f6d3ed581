// SPDX-License-Identifier: Apache-2.0
package io.creditd.examples;

import io.creditd.client.ErrorDetails;
import io.creditd.v1.CheckRequest;
import io.creditd.v1.CheckResponse;
import io.creditd.v1.ConsumeRequest;
import io.creditd.v1.ConsumeResponse;
import io.creditd.v1.EntitlementsGrpc;
import io.creditd.v1.EntitlementsGrpc.EntitlementsBlockingStub;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * What a caller of creditd meets: a check, a burn and its retry, a denial, and an error taken apart. Run it against {@code creditd
 * dev --demo}: {@code mvn -q test-compile exec:java@tour}.
 */
public final class Tour {
  private final EntitlementsBlockingStub client;

  public Tour(ManagedChannel channel) {
    client = EntitlementsGrpc.newBlockingStub(channel);
  }

  /** Asks; nothing is burned. */
  CheckResponse check() {
    return withDeadline().check(CheckRequest.newBuilder()
        .setAccount("demo")
        .setFeature("chat")
        .putAttributes("model", "gpt-4o")
        .putUsage("input_tokens", 1000)
        .putUsage("output_tokens", 500)
        .build());
  }

  /** Burns, once for each key however often it is called. */
  ConsumeResponse consume(String key) {
    return withDeadline().consume(ConsumeRequest.newBuilder()
        .setAccount("demo")
        .setFeature("chat")
        .putAttributes("model", "gpt-4o")
        .putUsage("input_tokens", 1000)
        .putUsage("output_tokens", 500)
        .setIdempotencyKey(key)
        .build());
  }

  /** Asks for 9e15 micro-credits, about the largest amount there is. The denial is an answer, no error. */
  ConsumeResponse consumeTooMuch() {
    return withDeadline().consume(ConsumeRequest.newBuilder()
        .setAccount("demo")
        .setFeature("chat")
        .putAttributes("model", "gpt-4o")
        .putUsage("output_tokens", 8_999_999_999_999L)
        .build());
  }

  /** Makes two faults: no account, and both ways to say how much. */
  CheckResponse checkMalformed() {
    return withDeadline().check(CheckRequest.newBuilder()
        .setFeature("chat")
        .setQuantity(1)
        .putUsage("input_tokens", 1000)
        .build());
  }

  private EntitlementsBlockingStub withDeadline() {
    return client.withDeadlineAfter(10, TimeUnit.SECONDS);
  }

  private void run() {
    CheckResponse answer = check();
    System.out.printf("check: %s, costs %d of %d micro-credits%n",
        answer.getReason(), answer.getCostMicros(), answer.getBalance().getAvailableMicros());

    // The key belongs to one operation of yours, such as one request of a user, and stays the same when you retry.
    String key = "tour-" + UUID.randomUUID();
    for (int attempt = 1; attempt <= 2; attempt++) {
      ConsumeResponse burn = consume(key);
      System.out.printf("consume %d: burned %d, replayed=%b%n", attempt, burn.getChargedMicros(), burn.getReplayed());
    }

    ConsumeResponse denial = consumeTooMuch();
    System.out.printf("denied: allowed=%b, %s, %d missing%n",
        denial.getAllowed(), denial.getReason(), denial.getShortfallMicros());

    try {
      checkMalformed();
      throw new IllegalStateException("a malformed request was not refused");
    } catch (StatusRuntimeException error) {
      ErrorDetails details = ErrorDetails.of(error);
      System.out.printf("error: %s, %s of %s%n", details.code(), details.reason(), details.domain());
      details.violations().forEach(
          violation -> System.out.printf("  %s: %s%n", violation.field(), violation.description()));
    }
  }

  public static void main(String[] args) {
    String address = System.getenv().getOrDefault("CREDITD_ADDRESS", "127.0.0.1:50051");
    ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      new Tour(channel).run();
    } finally {
      channel.shutdownNow();
    }
  }
}
