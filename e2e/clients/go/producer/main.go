// Producer sends orders of three customers. A customer's orders keep their order: the key chooses the partition.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/segmentio/kafka-go"
)

func main() {
	topic := cmp.Or(os.Getenv("TOPIC"), "orders")
	count := 9
	if len(os.Args) > 1 {
		count, _ = strconv.Atoi(os.Args[1])
	}

	writer := &kafka.Writer{
		Addr:         kafka.TCP(cmp.Or(os.Getenv("BOOTSTRAP_SERVERS"), "localhost:9092")),
		Topic:        topic,
		Balancer:     kafka.Murmur2Balancer{}, // as the Java client: a key is in one partition, whoever sends it
		RequiredAcks: kafka.RequireAll,
		Completion: func(orders []kafka.Message, err error) {
			for _, order := range orders {
				if err == nil {
					fmt.Printf("%s-%d@%d %s %s\n", topic, order.Partition, order.Offset, order.Key, order.Value)
				}
			}
		},
	}
	var orders []kafka.Message
	for number := 1; number <= count; number++ {
		customer := fmt.Sprintf("customer-%d", (number-1)%3+1)
		order := fmt.Sprintf(`{"order": %d, "customer": "%s", "from": "go"}`, number, customer)
		orders = append(orders, kafka.Message{Key: []byte(customer), Value: []byte(order)})
	}
	if err := writer.WriteMessages(context.Background(), orders...); err != nil {
		log.Fatal("not delivered: ", err)
	}
	if err := writer.Close(); err != nil {
		log.Fatal(err)
	}
}
