// Shows what a caller of creditd meets: a check, a burn and its retry, a denial, and an error taken apart. Run it against
// `creditd dev --demo`: `go run ./examples/tour`.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/creditd/creditd/clients/go/creditd"
	creditdv1 "github.com/creditd/creditd/clients/go/creditd/v1"
)

func main() {
	address := cmp.Or(os.Getenv("CREDITD_ADDRESS"), "127.0.0.1:50051")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tour(ctx, creditdv1.NewEntitlementsClient(conn)); err != nil {
		log.Fatal(err)
	}
}

func tour(ctx context.Context, client creditdv1.EntitlementsClient) error {
	answer, err := check(ctx, client)
	if err != nil {
		return err
	}
	fmt.Printf("check: allowed=%t, %s, costs %d of %d micro-credits\n", answer.GetAllowed(), answer.GetReason(),
		answer.GetCostMicros(), answer.GetBalance().GetAvailableMicros())

	// The key belongs to one operation of yours, such as one request of a user, and stays the same when you retry.
	key := "tour-" + rand.Text()
	for range 2 {
		answer, err := consume(ctx, client, key)
		if err != nil {
			return err
		}
		fmt.Printf("consume: burned %d, replayed=%t, %d left\n", answer.GetChargedMicros(), answer.GetReplayed(),
			answer.GetBalance().GetAvailableMicros())
	}

	denial, err := consumeTooMuch(ctx, client)
	if err != nil {
		return err
	}
	fmt.Printf("denied: allowed=%t, %s, %d missing\n", denial.GetAllowed(), denial.GetReason(), denial.GetShortfallMicros())

	_, err = checkMalformed(ctx, client)
	details, ok := creditd.ErrorDetailsOf(err)
	if !ok {
		return fmt.Errorf("a malformed request was not refused: %w", err)
	}
	fmt.Printf("error: %s, %s of %s\n", details.Code, details.Reason, details.Domain)
	for _, violation := range details.Violations {
		fmt.Printf("  %s: %s\n", violation.Field, violation.Description)
	}
	return nil
}

// check asks; nothing is burned.
func check(ctx context.Context, client creditdv1.EntitlementsClient) (*creditdv1.CheckResponse, error) {
	return client.Check(ctx, &creditdv1.CheckRequest{
		Account:    "demo",
		Feature:    "chat",
		Attributes: map[string]string{"model": "gpt-4o"},
		Usage:      map[string]int64{"input_tokens": 1000, "output_tokens": 500},
	})
}

// consume burns, once for each key however often it is called.
func consume(ctx context.Context, client creditdv1.EntitlementsClient, key string) (*creditdv1.ConsumeResponse, error) {
	return client.Consume(ctx, &creditdv1.ConsumeRequest{
		Account:        "demo",
		Feature:        "chat",
		Attributes:     map[string]string{"model": "gpt-4o"},
		Usage:          map[string]int64{"input_tokens": 1000, "output_tokens": 500},
		IdempotencyKey: key,
	})
}

// consumeTooMuch asks for 9e15 micro-credits, about the largest amount there is. The denial is an answer, no error.
func consumeTooMuch(ctx context.Context, client creditdv1.EntitlementsClient) (*creditdv1.ConsumeResponse, error) {
	return client.Consume(ctx, &creditdv1.ConsumeRequest{
		Account:    "demo",
		Feature:    "chat",
		Attributes: map[string]string{"model": "gpt-4o"},
		Usage:      map[string]int64{"output_tokens": 8_999_999_999_999},
	})
}

// checkMalformed has two faults: no account, and both ways to say how much.
func checkMalformed(ctx context.Context, client creditdv1.EntitlementsClient) (*creditdv1.CheckResponse, error) {
	return client.Check(ctx, &creditdv1.CheckRequest{
		Feature:  "chat",
		Quantity: proto.Int64(1),
		Usage:    map[string]int64{"input_tokens": 1000},
	})
}
