package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/creditd/creditd/clients/go/creditd"
	creditdv1 "github.com/creditd/creditd/clients/go/creditd/v1"
)

// 1,000 input tokens at 0.25 and 500 output tokens at 1 credit per 1,000.
const costMicros = 750_000

func connect(t *testing.T) (context.Context, creditdv1.EntitlementsClient) {
	t.Helper()
	address := os.Getenv("CREDITD_ADDRESS")
	if address == "" {
		t.Skip("CREDITD_ADDRESS names no server (`creditd dev --demo` is one)")
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(func() {
		cancel()
		conn.Close()
	})
	return ctx, creditdv1.NewEntitlementsClient(conn)
}

func TestCheckTellsCostAndABalanceBeyond32Bits(t *testing.T) {
	ctx, client := connect(t)
	answer, err := check(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if !answer.GetAllowed() || answer.GetReason() != creditdv1.Reason_REASON_COVERED || answer.GetCostMicros() != costMicros {
		t.Errorf("got %v", answer)
	}
	if available := answer.GetBalance().GetAvailableMicros(); available <= 1<<32 {
		t.Errorf("available: got %d, want more than 2^32", available)
	}
}

func TestConsumeBurnsOnceForAKey(t *testing.T) {
	ctx, client := connect(t)
	before, err := check(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	key := "test-" + rand.Text()
	first, err := consume(ctx, client, key)
	if err != nil {
		t.Fatal(err)
	}
	if !first.GetAllowed() || first.GetReplayed() || first.GetChargedMicros() != costMicros {
		t.Errorf("first: got %v", first)
	}
	left := before.GetBalance().GetAvailableMicros() - costMicros
	if got := first.GetBalance().GetAvailableMicros(); got != left {
		t.Errorf("left after the first: got %d, want %d", got, left)
	}
	second, err := consume(ctx, client, key)
	if err != nil {
		t.Fatal(err)
	}
	if !second.GetReplayed() || second.GetEntryId() != first.GetEntryId() || second.GetChargedMicros() != costMicros {
		t.Errorf("second: got %v, want a replay of %v", second, first)
	}
	after, err := check(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.GetBalance().GetAvailableMicros(); got != left {
		t.Errorf("left after the second: got %d, want %d", got, left)
	}
}

func TestDenialIsAnAnswerWithAnExactShortfall(t *testing.T) {
	ctx, client := connect(t)
	before, err := check(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	denial, err := consumeTooMuch(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if denial.GetAllowed() || denial.GetReason() != creditdv1.Reason_REASON_INSUFFICIENT_CREDITS || denial.GetEntryId() != "" {
		t.Errorf("got %v", denial)
	}
	want := 8_999_999_999_999_000 - before.GetBalance().GetAvailableMicros()
	if got := denial.GetShortfallMicros(); got != want {
		t.Errorf("shortfall: got %d, want %d", got, want)
	}
}

func TestMalformedRequestTellsEveryViolation(t *testing.T) {
	ctx, client := connect(t)
	_, err := checkMalformed(ctx, client)
	details, ok := creditd.ErrorDetailsOf(err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	if details.Code != codes.InvalidArgument || details.Reason != "INVALID_ARGUMENT" || details.Domain != creditd.Domain {
		t.Errorf("got %+v", details)
	}
	fields := map[string]bool{}
	for _, violation := range details.Violations {
		fields[violation.Field] = violation.Description != ""
	}
	if len(details.Violations) != 2 || !fields["account"] || !fields["usage"] {
		t.Errorf("violations: got %+v", details.Violations)
	}
}

func TestUnknownFeatureIsNamedInTheMetadata(t *testing.T) {
	ctx, client := connect(t)
	_, err := client.Check(ctx, &creditdv1.CheckRequest{Account: "demo", Feature: "no-such"})
	details, ok := creditd.ErrorDetailsOf(err)
	if !ok || details.Code != codes.NotFound || details.Reason != "FEATURE_NOT_FOUND" || details.Metadata["key"] != "no-such" {
		t.Errorf("got %+v of %v", details, err)
	}
}

func TestExamplesRunAsPrograms(t *testing.T) {
	connect(t)
	for example, want := range map[string]string{
		"first_check": "true REASON_COVERED 750000\n",
		"tour":        "replayed=true",
	} {
		command := exec.Command("go", "run", "../"+example)
		output, err := command.CombinedOutput()
		if err != nil || !bytes.Contains(output, []byte(want)) {
			t.Errorf("%s: %v\n%s", example, err, output)
		}
	}
}
