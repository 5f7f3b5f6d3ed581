package creditd

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain is the domain of the errors that a creditd server makes itself.
const Domain = "creditd"

// ErrorDetails is what a failed call tells.
type ErrorDetails struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Message says in words what is wrong; for people, not stable.
	Message string
	// Reason is stable, such as FEATURE_NOT_FOUND: decide on it. Empty when the error was not made by a creditd
	// server, as when none answers.
	Reason string
	// Domain is "creditd", or empty like Reason.
	Domain string
	// Metadata has the variables of Message, such as the id that was not found.
	Metadata map[string]string
	// Violations are all the faults of a malformed request.
	Violations []Violation
	// RetryDelay is how long to wait before a retry; 0 when the server does not say.
	RetryDelay time.Duration
}

// Violation is one fault of a request.
type Violation struct {
	// Field is the path of the field, such as usage["input_tokens"].
	Field string
	// Description says what is wrong with it.
	Description string
}

// ErrorDetailsOf takes the error of a call apart. It reports false for an error that has no gRPC status, and for nil.
func ErrorDetailsOf(err error) (ErrorDetails, bool) {
	if err == nil {
		return ErrorDetails{}, false
	}
	state, ok := status.FromError(err)
	if !ok {
		return ErrorDetails{}, false
	}
	details := ErrorDetails{Code: state.Code(), Message: state.Message()}
	for _, detail := range state.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			details.Reason, details.Domain, details.Metadata = detail.GetReason(), detail.GetDomain(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				details.Violations = append(details.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			details.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	return details, true
}
