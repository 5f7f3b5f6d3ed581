package creditd_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/creditd/creditd/clients/go/creditd"
)

func TestErrorIsTakenApartAlsoWhenWrapped(t *testing.T) {
	state, err := status.New(codes.InvalidArgument, "2 faults").WithDetails(
		&errdetails.ErrorInfo{Reason: "INVALID_ARGUMENT", Domain: "creditd", Metadata: map[string]string{"id": "7"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "account", Description: "is empty"},
			{Field: "usage", Description: "is negative"},
		}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := creditd.ErrorDetails{
		Code:       codes.InvalidArgument,
		Message:    "2 faults",
		Reason:     "INVALID_ARGUMENT",
		Domain:     "creditd",
		Metadata:   map[string]string{"id": "7"},
		Violations: []creditd.Violation{{"account", "is empty"}, {"usage", "is negative"}},
		RetryDelay: 1500 * time.Millisecond,
	}
	if got, ok := creditd.ErrorDetailsOf(state.Err()); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %t, want %+v", got, ok, want)
	}
	got, ok := creditd.ErrorDetailsOf(fmt.Errorf("checking: %w", state.Err()))
	if !ok || got.Reason != "INVALID_ARGUMENT" || len(got.Violations) != 2 {
		t.Errorf("wrapped: got %+v, %t", got, ok)
	}
}

func TestErrorWithoutDetailsHasItsCodeAndNoReason(t *testing.T) {
	got, ok := creditd.ErrorDetailsOf(status.Error(codes.Unavailable, "connection refused"))
	want := creditd.ErrorDetails{Code: codes.Unavailable, Message: "connection refused"}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %t, want %+v", got, ok, want)
	}
}

func TestWhatIsNoErrorOfACallIsNotTakenApart(t *testing.T) {
	for _, err := range []error{nil, errors.New("disk full")} {
		if got, ok := creditd.ErrorDetailsOf(err); ok {
			t.Errorf("%v: got %+v", err, got)
		}
	}
}
