// Consumer prints orders as they come. Start a second one: the members of a group share the partitions.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/segmentio/kafka-go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:           []string{cmp.Or(os.Getenv("BOOTSTRAP_SERVERS"), "localhost:9092")},
		Topic:             cmp.Or(os.Getenv("TOPIC"), "orders"),
		GroupID:           cmp.Or(os.Getenv("GROUP_ID"), "example-consumer"),
		StartOffset:       kafka.FirstOffset,
		MaxWait:           500 * time.Millisecond,
		SessionTimeout:    6 * time.Second,
		HeartbeatInterval: time.Second,
	})
	for {
		order, err := reader.ReadMessage(ctx) // commits as well
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s-%d@%d %s %s\n", order.Topic, order.Partition, order.Offset, order.Key, order.Value)
	}
	if err := reader.Close(); err != nil { // leaves the group
		log.Fatal(err)
	}
	log.Print("bye")
}
