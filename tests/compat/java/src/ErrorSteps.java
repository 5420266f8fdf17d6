import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TopicExistsException;

/** The errors that an application meets, each with the class that the Java client gives it. */
final class ErrorSteps {
    private final Clients clients;
    private final boolean autoCreate;

    ErrorSteps(Clients clients, boolean autoCreate) {
        this.clients = clients;
        this.autoCreate = autoCreate;
    }

    void run() {
        if (autoCreate) {
            Report.line("error-unknown-topic", "null", "the broker creates topics by itself");
        } else {
            // The Java client waits for the topic to appear, so its error is a timeout.
            Report.step("error-unknown-topic", () -> Clients.fails(TimeoutException.class, () -> {
                clients.send(Map.of("max.block.ms", 2000),
                        List.of(new ProducerRecord<>(clients.topic("absent"), DataSet.bytes("v"))));
                return null;
            }));
        }
        Report.step("error-too-large", () -> Clients.fails(RecordTooLargeException.class, () -> {
            clients.send(Map.of("max.request.size", 8_000_000),
                    List.of(new ProducerRecord<>(clients.topic("none"), new byte[2_000_000])));
            return null;
        }));
        Report.step("error-invalid-topic", () -> Clients.fails(InvalidTopicException.class, () -> {
            clients.create("not a topic!", 1);
            return null;
        }));
        Report.step("error-topic-exists", () -> Clients.fails(TopicExistsException.class, () -> {
            clients.create(clients.topic("none"), 1);
            return null;
        }));
        Report.step("error-invalid-config", () -> Clients.fails(InvalidConfigurationException.class, () -> {
            clients.create(clients.topic("bad-config"), 1, Map.of("retention.ms", "soon"));
            return null;
        }));
        Report.step("reset-earliest", () -> {
            try (var consumer = clients.reader(clients.topic("none"), 1000, Map.of())) {
                Report.same("the first offset", 0L, Clients.read(consumer, 1).get(0).offset());
            }
            return null;
        });
        Report.step("reset-latest", () -> {
            TopicPartition partition = new TopicPartition(clients.topic("none"), 0);
            try (var consumer = clients.reader(partition.topic(), 1000, Map.of("auto.offset.reset", "latest"))) {
                Clients.until("reset", () -> {
                    Report.check(consumer.poll(Duration.ofMillis(200)).isEmpty(), "records came");
                    return consumer.position(partition) == 7;
                }, () -> "the position is " + consumer.position(partition));
            }
            return null;
        });
        Report.step("reset-none", () -> Clients.fails(OffsetOutOfRangeException.class, () -> {
            try (var consumer = clients.reader(clients.topic("none"), 1000, Map.of("auto.offset.reset", "none"))) {
                Clients.read(consumer, 1);
            }
            return null;
        }));
    }
}
