import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Sends orders of three customers. A customer's orders keep their order: the key chooses the partition. */
public class Producer {
    public static void main(String[] args) {
        String servers = System.getenv().getOrDefault("BOOTSTRAP_SERVERS", "localhost:9092");
        String topic = System.getenv().getOrDefault("TOPIC", "orders");
        int count = args.length > 0 ? Integer.parseInt(args[0]) : 9;

        Map<String, Object> config = Map.of(
            "bootstrap.servers", servers,
            "acks", "all",
            "key.serializer", StringSerializer.class,
            "value.serializer", StringSerializer.class);

        try (var producer = new KafkaProducer<String, String>(config)) {
            for (int number = 1; number <= count; number++) {
                String customer = "customer-" + ((number - 1) % 3 + 1);
                String order = String.format("{\"order\": %d, \"customer\": \"%s\", \"from\": \"java\"}", number, customer);
                producer.send(new ProducerRecord<>(topic, customer, order), (metadata, error) -> {
                    if (error != null) {
                        System.err.println("not delivered: " + error.getMessage());
                        System.exit(1);
                    }
                    System.out.printf("%s-%d@%d %s %s%n", topic, metadata.partition(), metadata.offset(), customer, order);
                });
            }
        } // close() waits until everything is delivered
    }
}
