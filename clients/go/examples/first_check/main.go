// Asks whether the account demo may use the feature chat: `go run ./examples/first_check`.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	creditdv1 "github.com/creditd/creditd/clients/go/creditd/v1"
)

func main() {
	address := cmp.Or(os.Getenv("CREDITD_ADDRESS"), "127.0.0.1:50051")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	answer, err := creditdv1.NewEntitlementsClient(conn).Check(context.Background(), &creditdv1.CheckRequest{
		Account:    "demo",
		Feature:    "chat",
		Attributes: map[string]string{"model": "gpt-4o"},
		Usage:      map[string]int64{"input_tokens": 1000, "output_tokens": 500},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetAllowed(), answer.GetReason(), answer.GetCostMicros())
}
