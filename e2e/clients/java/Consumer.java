import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints orders as they come. Start a second one: the members of a group share the partitions. */
public class Consumer {
    public static void main(String[] args) {
        String servers = System.getenv().getOrDefault("BOOTSTRAP_SERVERS", "localhost:9092");
        String topic = System.getenv().getOrDefault("TOPIC", "orders");
        String group = System.getenv().getOrDefault("GROUP_ID", "example-consumer");

        Map<String, Object> config = Map.of(
            "bootstrap.servers", servers,
            "group.id", group,
            "auto.offset.reset", "earliest",
            "session.timeout.ms", "6000",
            "heartbeat.interval.ms", "1000",
            "key.deserializer", StringDeserializer.class,
            "value.deserializer", StringDeserializer.class);

        Thread main = Thread.currentThread();
        try (var consumer = new KafkaConsumer<String, String>(config)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(consumer, main)));
            consumer.subscribe(List.of(topic));
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(500))) {
                    System.out.printf("%s-%d@%d %s %s%n",
                        record.topic(), record.partition(), record.offset(), record.key(), record.value());
                }
            }
        } catch (WakeupException stopped) {
            System.err.println("bye"); // close() has committed and left the group
        }
    }

    /** Ctrl-C: wake the consumer out of its poll, and let it leave the group before the process ends. */
    private static void stop(KafkaConsumer<?, ?> consumer, Thread main) {
        consumer.wakeup();
        try {
            main.join();
        } catch (InterruptedException ignored) {
            Thread.currentThread().interrupt();
        }
    }
}
