import java.time.Duration;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;

/**
 * Processes records until standard input ends. Prints a line for each record it gets ({@code got}), for what
 * it says of it, before it says so ({@code says}), and for what it hears of that ({@code ok} or {@code
 * failed}): partition, offset, then the rest.
 */
final class ShareWorker {
    private final String bootstrap;
    private final String group;
    private final String topic;
    private final Random random;

    ShareWorker(String bootstrap, String group, String topic, long seed) {
        this.bootstrap = bootstrap;
        this.group = group;
        this.topic = topic;
        this.random = new Random(seed);
    }

    void run() throws Exception {
        try (KafkaShareConsumer<String, String> consumer =
                Share.consumer(bootstrap, group, "explicit", Map.of())) {
            consumer.setAcknowledgementCommitCallback((offsets, failure) -> offsets.forEach(
                    (partition, each) -> each.forEach(offset -> line(failure == null ? "ok" : "failed",
                            partition.partition(), offset,
                            failure == null ? "" : failure.getClass().getSimpleName()))));
            consumer.subscribe(java.util.List.of(topic));
            line("ready", -1, -1, "");
            AtomicBoolean goesOn = new AtomicBoolean(true);
            Thread end = new Thread(() -> awaitEnd(goesOn));
            end.setDaemon(true);
            end.start();
            while (goesOn.get()) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<String, String> record : records) {
                    line("got", record.partition(), record.offset(),
                            record.deliveryCount().orElse((short) 0) + " " + record.value());
                    AcknowledgeType type = decide();
                    line("says", record.partition(), record.offset(), type.toString());
                    consumer.acknowledge(record, type);
                }
                if (random.nextInt(3) == 0) {
                    consumer.commitSync(Duration.ofSeconds(30));
                } else {
                    consumer.commitAsync();
                }
            }
        }
    }

    /** Whoever started this closes the pipe, or is gone. */
    private static void awaitEnd(AtomicBoolean goesOn) {
        try {
            while (System.in.read() >= 0) {
                // Nothing is said here.
            }
        } catch (java.io.IOException gone) {
            // As good as the end.
        }
        goesOn.set(false);
    }

    private AcknowledgeType decide() {
        int number = random.nextInt(100);
        if (number < 85) {
            return AcknowledgeType.ACCEPT;
        }
        return number < 95 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT;
    }

    private static void line(String what, int partition, long offset, String rest) {
        System.out.println(what + " " + partition + " " + offset + " " + rest);
        System.out.flush();
    }
}
