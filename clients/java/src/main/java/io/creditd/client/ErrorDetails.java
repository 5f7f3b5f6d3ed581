// SPDX-License-Identifier: Apache-2.0
package io.creditd.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * What a failed call tells.
 *
 * @param code the gRPC status code
 * @param message what is wrong, in words; for people, not stable
 * @param reason stable, such as {@code FEATURE_NOT_FOUND}: decide on it. Empty when the error was not made by a creditd server,
 *     as when none answers
 * @param domain {@code creditd}, or empty like {@code reason}
 * @param metadata the variables of {@code message}, such as the id that was not found
 * @param violations all the faults of a malformed request
 * @param retryDelay how long to wait before a retry; empty when the server does not say
 */
public record ErrorDetails(
    Status.Code code,
    String message,
    String reason,
    String domain,
    Map<String, String> metadata,
    List<Violation> violations,
    Optional<Duration> retryDelay) {

  /** The domain of the errors that a creditd server makes itself. */
  public static final String DOMAIN = "creditd";

  /**
   * One fault of a request.
   *
   * @param field path of the field, such as {@code usage["input_tokens"]}
   * @param description what is wrong with it
   */
  public record Violation(String field, String description) {}

  /** Copies the collections. */
  public ErrorDetails {
    metadata = Map.copyOf(metadata);
    violations = List.copyOf(violations);
  }

  /**
   * Takes the error of a call apart.
   *
   * @param error what a stub threw or a {@code StreamObserver} was handed: {@code StatusRuntimeException} or {@code
   *     StatusException}, also as the cause of another, such as an {@code ExecutionException}. Anything else has the code {@code
   *     UNKNOWN} and its own message
   * @return what the error tells; details that can't be parsed are left out, so that they don't hide the error itself
   */
  public static ErrorDetails of(Throwable error) {
    Status status = Status.fromThrowable(Objects.requireNonNull(error, "error"));
    com.google.rpc.Status wire = StatusProto.fromThrowable(error);
    List<Any> details = wire == null ? List.of() : wire.getDetailsList();
    ErrorInfo info = unpack(details, ErrorInfo.class).orElse(ErrorInfo.getDefaultInstance());
    return new ErrorDetails(
        status.getCode(),
        messageOf(status),
        info.getReason(),
        info.getDomain(),
        info.getMetadataMap(),
        unpack(details, BadRequest.class).orElse(BadRequest.getDefaultInstance()).getFieldViolationsList().stream()
            .map(violation -> new Violation(violation.getField(), violation.getDescription()))
            .toList(),
        unpack(details, RetryInfo.class)
            .filter(RetryInfo::hasRetryDelay)
            .map(retry -> Duration.ofSeconds(retry.getRetryDelay().getSeconds(), retry.getRetryDelay().getNanos())));
  }

  private static String messageOf(Status status) {
    if (status.getDescription() != null) {
      return status.getDescription();
    }
    return status.getCause() == null ? "" : status.getCause().toString();
  }

  private static <T extends Message> Optional<T> unpack(List<Any> details, Class<T> type) {
    for (Any detail : details) {
      if (detail.is(type)) {
        try {
          return Optional.of(detail.unpack(type));
        } catch (InvalidProtocolBufferException malformed) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }
}
