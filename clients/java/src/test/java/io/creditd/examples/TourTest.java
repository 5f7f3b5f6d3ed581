// SPDX-License-Identifier: Apache-2.0
package io.creditd.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.creditd.client.ErrorDetails;
import io.creditd.client.ErrorDetails.Violation;
import io.creditd.v1.Account;
import io.creditd.v1.AccountsGrpc;
import io.creditd.v1.CheckRequest;
import io.creditd.v1.CreateGrantRequest;
import io.creditd.v1.EntitlementsGrpc;
import io.creditd.v1.GetBalanceRequest;
import io.creditd.v1.Grant;
import io.creditd.v1.ListGrantsRequest;
import io.creditd.v1.PutAccountRequest;
import io.creditd.v1.Reason;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The examples, against the server at CREDITD_ADDRESS; others may use its demo account at the same time. */
class TourTest {
  /** 1,000 input tokens at 0.25 and 500 output tokens at 1 credit per 1,000. */
  private static final long COST_MICROS = 750_000;

  private static ManagedChannel channel;

  @BeforeAll
  static void connect() {
    String address = System.getenv("CREDITD_ADDRESS");
    assertTrue(address != null && !address.isEmpty(), "CREDITD_ADDRESS must name a running server, as host:port");
    channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
  }

  @AfterAll
  static void disconnect() {
    if (channel != null) {
      channel.shutdownNow();
    }
  }

  @Test
  void checkTellsCostAndABalanceBeyond32Bits() {
    var answer = new Tour(channel).check();
    assertTrue(answer.getAllowed());
    assertEquals(Reason.REASON_COVERED, answer.getReason());
    assertEquals(COST_MICROS, answer.getCostMicros());
    assertTrue(answer.getBalance().getAvailableMicros() > 1L << 32, answer::toString);
  }

  @Test
  void consumeBurnsOnceForAKey() {
    var tour = new Tour(channel);
    String key = "test-" + UUID.randomUUID();
    var first = tour.consume(key);
    assertTrue(first.getAllowed());
    assertFalse(first.getReplayed());
    assertEquals(COST_MICROS, first.getChargedMicros());
    var second = tour.consume(key);
    assertEquals(first.toBuilder().setReplayed(true).build(), second);
    assertNotEquals(first.getEntryId(), tour.consume(key + "-other").getEntryId());
  }

  @Test
  void denialIsAnAnswerWithAnExactShortfall() {
    var denial = new Tour(channel).consumeTooMuch();
    assertFalse(denial.getAllowed());
    assertEquals(Reason.REASON_INSUFFICIENT_CREDITS, denial.getReason());
    assertEquals("", denial.getEntryId());
    assertEquals(
        8_999_999_999_999_000L, denial.getShortfallMicros() + denial.getBalance().getAvailableMicros());
  }

  @Test
  void malformedRequestTellsEveryViolation() {
    var error = assertThrows(StatusRuntimeException.class, () -> new Tour(channel).checkMalformed());
    var details = ErrorDetails.of(error);
    assertEquals(Status.Code.INVALID_ARGUMENT, details.code());
    assertEquals("INVALID_ARGUMENT", details.reason());
    assertEquals(ErrorDetails.DOMAIN, details.domain());
    assertEquals(
        Set.of("account", "usage"), details.violations().stream().map(Violation::field).collect(Collectors.toSet()));
    details.violations().forEach(violation -> assertNotEquals("", violation.description()));
  }

  @Test
  void unknownFeatureIsNamedInTheMetadata() {
    var request = CheckRequest.newBuilder().setAccount("demo").setFeature("no-such").build();
    var error = assertThrows(
        StatusRuntimeException.class, () -> EntitlementsGrpc.newBlockingStub(channel).check(request));
    var details = ErrorDetails.of(error);
    assertEquals(Status.Code.NOT_FOUND, details.code());
    assertEquals("FEATURE_NOT_FOUND", details.reason());
    assertEquals("no-such", details.metadata().get("key"));
  }

  @Test
  void amountsNearTheLargestAreExact() {
    long amount = 8_999_999_999_999_999L;
    String account = "client-java-" + UUID.randomUUID();
    var accounts = AccountsGrpc.newBlockingStub(channel);
    accounts.putAccount(PutAccountRequest.newBuilder().setAccount(Account.newBuilder().setId(account)).build());
    var grant = accounts.createGrant(CreateGrantRequest.newBuilder()
        .setGrant(Grant.newBuilder().setId("big").setAccount(account).setCredit("credits").setAmountMicros(amount))
        .build());
    assertEquals(amount, grant.getAmountMicros());
    var listed = accounts.listGrants(ListGrantsRequest.newBuilder().setAccount(account).build());
    assertEquals(amount, listed.getGrants(0).getRemainingMicros());
    var entitlements = EntitlementsGrpc.newBlockingStub(channel);
    var balances = entitlements.getBalance(GetBalanceRequest.newBuilder().setAccount(account).build());
    assertEquals(amount, balances.getBalances(0).getAvailableMicros());
  }

  @Test
  void firstCheckRunsAsAProgram() throws Exception {
    assertEquals("true REASON_COVERED 750000", run(FirstCheck.class).strip());
  }

  @Test
  void tourRunsAsAProgram() throws Exception {
    String printed = run(Tour.class);
    assertTrue(printed.contains("consume 1: burned 750000, replayed=false"), printed);
    assertTrue(printed.contains("consume 2: burned 750000, replayed=true"), printed);
    assertTrue(printed.contains("denied: allowed=false, REASON_INSUFFICIENT_CREDITS, 89"), printed);
    assertTrue(printed.contains("error: INVALID_ARGUMENT, INVALID_ARGUMENT of creditd"), printed);
    assertTrue(printed.contains("  account: "), printed);
  }

  /** What a program prints; it must end well. */
  private static String run(Class<?> program) throws Exception {
    String java = System.getProperty("java.home") + File.separator + "bin" + File.separator + "java";
    Process process = new ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), program.getName())
        .redirectErrorStream(true)
        .start();
    String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), printed);
    return printed;
  }
}
