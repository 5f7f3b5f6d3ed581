// SPDX-License-Identifier: Apache-2.0
package io.creditd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.creditd.client.ErrorDetails.Violation;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import org.junit.jupiter.api.Test;

class ErrorDetailsTest {
  private static final ErrorInfo INFO =
      ErrorInfo.newBuilder().setReason("OVERLOADED").setDomain("creditd").putMetadata("limit", "9").build();
  private static final RetryInfo RETRY = RetryInfo.newBuilder()
      .setRetryDelay(Duration.newBuilder().setSeconds(1).setNanos(500_000_000))
      .build();
  private static final BadRequest FAULTS = BadRequest.newBuilder()
      .addFieldViolations(FieldViolation.newBuilder().setField("account").setDescription("is empty"))
      .addFieldViolations(FieldViolation.newBuilder().setField("usage").setDescription("is too long"))
      .build();

  private static StatusRuntimeException failure(Status.Code code, Any... details) {
    return StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
        .setCode(code.value())
        .setMessage("no")
        .addAllDetails(List.of(details))
        .build());
  }

  @Test
  void everyDetailIsTaken() {
    var error = failure(Status.Code.RESOURCE_EXHAUSTED, Any.pack(RETRY), Any.pack(FAULTS), Any.pack(INFO));
    var expected = new ErrorDetails(
        Status.Code.RESOURCE_EXHAUSTED,
        "no",
        "OVERLOADED",
        "creditd",
        Map.of("limit", "9"),
        List.of(new Violation("account", "is empty"), new Violation("usage", "is too long")),
        Optional.of(java.time.Duration.ofMillis(1500)));
    assertEquals(expected, ErrorDetails.of(error));
    assertEquals(expected, ErrorDetails.of(new ExecutionException(error)), "as the cause of another");
  }

  @Test
  void errorWithoutDetailsHasCodeAndMessageOnly() {
    var expected = bare(Status.Code.UNAVAILABLE, "nobody there");
    assertEquals(expected, ErrorDetails.of(Status.UNAVAILABLE.withDescription("nobody there").asRuntimeException()));
    assertEquals(expected, ErrorDetails.of(Status.UNAVAILABLE.withDescription("nobody there").asException()));
    assertEquals(bare(Status.Code.CANCELLED, ""), ErrorDetails.of(Status.CANCELLED.asRuntimeException()));
  }

  @Test
  void errorOfNoCallIsUnknownAndKeepsItsMessage() {
    assertEquals(
        bare(Status.Code.UNKNOWN, "java.lang.IllegalStateException: oops"),
        ErrorDetails.of(new IllegalStateException("oops")));
  }

  @Test
  void malformedDetailHidesNeitherTheErrorNorTheOtherDetails() {
    Any malformed = Any.pack(INFO).toBuilder().setValue(ByteString.copyFromUtf8("garbage")).build();
    var details = ErrorDetails.of(failure(Status.Code.INVALID_ARGUMENT, malformed, Any.pack(FAULTS)));
    assertEquals(Status.Code.INVALID_ARGUMENT, details.code());
    assertEquals("", details.reason());
    assertEquals(2, details.violations().size());
  }

  private static ErrorDetails bare(Status.Code code, String message) {
    return new ErrorDetails(code, message, "", "", Map.of(), List.of(), Optional.empty());
  }
}
