// SPDX-License-Identifier: Apache-2.0
package io.creditd.examples;

import io.creditd.v1.CheckRequest;
import io.creditd.v1.EntitlementsGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;

/** Asks whether the account demo may use the feature chat: {@code mvn -q test-compile exec:java@first-check}. */
public final class FirstCheck {
  private FirstCheck() {}

  public static void main(String[] args) {
    String address = System.getenv().getOrDefault("CREDITD_ADDRESS", "127.0.0.1:50051");
    ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      var request = CheckRequest.newBuilder()
          .setAccount("demo")
          .setFeature("chat")
          .putAttributes("model", "gpt-4o")
          .putUsage("input_tokens", 1000)
          .putUsage("output_tokens", 500)
          .build();
      var answer = EntitlementsGrpc.newBlockingStub(channel).check(request);
      System.out.println(answer.getAllowed() + " " + answer.getReason() + " " + answer.getCostMicros());
    } finally {
      channel.shutdownNow();
    }
  }
}
